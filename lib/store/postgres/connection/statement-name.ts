import { hash } from 'node:crypto';

const names = new Map<string, string>();

/** The same name means the same statement, also to others who share a session with us. */
export function nameOf(text: string): string {
  let name = names.get(text);
  if (name === undefined) {
    name = `idempotency_${hash('sha256', text, 'hex').slice(0, 32)}`;
    names.set(text, name);
  }
  return name;
}
