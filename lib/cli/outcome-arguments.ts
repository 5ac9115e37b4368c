import { readFile } from 'node:fs/promises';
import { buffer } from 'node:stream/consumers';
import { headersIn, type Resolution } from '../outcome/resolution';
import { UsageError } from './exit';

/** What retries must get, as `resolve` is told it. */
export interface OutcomeOptions {
  readonly status?: string;
  readonly header: readonly string[];
  readonly body?: string;
  readonly value?: string;
}

/** Retries of a request read a response, and `execute` reads a value: of the other form they could make nothing. */
export function assertForm(route: string | undefined, outcome: Resolution): void {
  const isValue = typeof outcome === 'object' && 'value' in outcome;
  if (route !== undefined && isValue)
    throw new UsageError('The record is of an HTTP request: pass --status and --body, and no --value.');
  if (route === undefined && !isValue)
    throw new UsageError('The record is of execute(), which returns a value: pass --value, and no --status.');
}

/** @throws UsageError */
export async function outcomeIn({
  status,
  header,
  body,
  value,
}: OutcomeOptions): Promise<Exclude<Resolution, 'retry'>> {
  if (value !== undefined) {
    if (status !== undefined || body !== undefined || header.length > 0)
      throw new UsageError('Pass --value, or --status with --header and --body.');
    try {
      return { value: JSON.parse(value) as unknown };
    } catch {
      throw new UsageError('--value is not JSON.');
    }
  }
  if (status === undefined || !/^\d{3}$/.test(status))
    throw new UsageError(
      'Pass the response that retries must get: --status 201 --body @file, or --value for execute().',
    );
  return { status: Number(status), headers: headersIn(header), body: await bodyIn(body) };
}

async function bodyIn(body = ''): Promise<string | Buffer> {
  // As bytes: as a text it would lose a byte order mark, and all that is not UTF-8.
  if (body === '@-') return buffer(process.stdin);
  if (!body.startsWith('@')) return body;
  const file = body.slice(1);
  return readFile(file).catch((error: unknown) => {
    throw new UsageError(`The file ${JSON.stringify(file)} cannot be read: ${String(error)}`);
  });
}
