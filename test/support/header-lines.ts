import { credentialsOf, type CredentialRules } from '../../lib/http/request/caller/credentials';

/** Header lines as a client sends them. */
export type Lines = readonly (readonly [name: string, value: string])[];

/** As Node makes it of header lines: most of the repeated ones are joined, of some the first is kept. */
export function headOf(lines: Lines): { headers: Record<string, string>; rawHeaders: string[] } {
  const headers: Record<string, string> = {};
  for (const [sent, value] of lines) {
    const name = sent.toLowerCase();
    const before = headers[name];
    if (before === undefined) headers[name] = value;
    else if (name !== 'authorization') headers[name] = [before, value].join(name === 'cookie' ? '; ' : ', ');
  }
  return { headers, rawHeaders: lines.flat() };
}

export const RULES: CredentialRules = {
  headers: ['Idempotency-Key', 'X-Request-Ticket'],
  credentialHeaders: undefined,
};
export const found = (lines: Lines, rules = RULES) => credentialsOf(headOf(lines), rules);
