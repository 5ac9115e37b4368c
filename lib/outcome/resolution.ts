import { InvalidOptionsError } from '../options/validate';
import type { HeaderList, Outcome } from '../core/record';
import { isRecorded } from './recorded-headers';
import { invalid } from '../options/service-arguments';
import { unsendable } from './stored-outcome';
import { valueOutcome } from './value-outcome';

/**
 * How an operator settles an unknown outcome: with the value that `execute` must return, with the response that
 * an HTTP retry must get, or with `'retry'`, so that the next request runs the handler.
 */
export type Resolution =
  | 'retry'
  | { readonly value: unknown }
  | {
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string | Buffer;
    };

const WHERE = 'IdempotencyService.resolve';

/**
 * Undefined for `'retry'`.
 * @throws InvalidOptionsError
 */
export function resolvedOutcome(resolution: Resolution): Outcome | undefined {
  if (resolution === 'retry') return undefined;
  const given: unknown = resolution;
  if (typeof given !== 'object' || given === null || !('value' in given || 'status' in given))
    throw invalid(WHERE, 'resolution', given, "'retry', { value } or { status, headers, body }");
  if ('value' in given) {
    const outcome = valueOutcome(given.value, Infinity);
    if (outcome.kind === 'response') return outcome;
    throw new InvalidOptionsError(WHERE, ['"value" has no JSON form, so no retry could get it']);
  }
  const { status, headers, body = '' } = given as { status: number; headers?: unknown; body?: unknown };
  if (typeof body !== 'string' && !(body instanceof Uint8Array))
    throw invalid(WHERE, 'body', body, 'a string or a Buffer');
  const outcome = {
    kind: 'response',
    status,
    headers: headerList(headers),
    body: Buffer.from(body),
  } as const;
  const problem = unsendable(outcome);
  if (problem !== undefined)
    throw new InvalidOptionsError(WHERE, [`the response cannot be sent: ${problem}`]);
  return outcome;
}

/**
 * Headers as people write them, one a line: `Name: value`.
 * @throws InvalidOptionsError
 */
export function headersIn(lines: readonly string[]): Record<string, string> {
  const pairs = lines.map((line): [name: string, value: string] => {
    const at = line.indexOf(':');
    if (at < 1)
      throw new InvalidOptionsError(WHERE, [
        `the header ${JSON.stringify(line)} is not of the form 'Name: value'`,
      ]);
    return [line.slice(0, at).trim(), line.slice(at + 1).trim()];
  });
  assertOnce(pairs.map(([name]) => name));
  return Object.fromEntries(pairs);
}

/** One of two values would be lost. */
function assertOnce(names: readonly string[]): void {
  const seen = new Set<string>();
  for (const name of names) {
    const lower = name.toLowerCase();
    if (seen.has(lower))
      throw new InvalidOptionsError(WHERE, [
        `the header ${JSON.stringify(name)} is given twice: put its values on one line, with a comma between them`,
      ]);
    seen.add(lower);
  }
}

function headerList(headers: unknown): HeaderList {
  if (headers === undefined) return [];
  if (typeof headers !== 'object' || headers === null || Array.isArray(headers))
    throw invalid(WHERE, 'headers', headers, 'an object of names and values');
  assertOnce(Object.keys(headers));
  return Object.entries(headers as Record<string, unknown>).map(([name, value]) => {
    if (typeof value !== 'string') throw invalid(WHERE, `headers.${name}`, value, 'a string');
    if (!isRecorded(name.toLowerCase()))
      throw new InvalidOptionsError(WHERE, [
        `"headers.${name}" belongs to one connection or request, and is never replayed: leave it out`,
      ]);
    return [name, value] as const;
  });
}
