import {
  validateHeaderValue,
  type OutgoingHttpHeader,
  type OutgoingHttpHeaders,
  type ServerResponse,
} from 'node:http';

type HeaderArgument = OutgoingHttpHeaders | OutgoingHttpHeader[];

/** As they were set, in upper and lower case; Node's types lack the method on responses. */
export function rawHeaderNames(response: ServerResponse & { getRawHeaderNames?(): string[] }): string[] {
  return response.getRawHeaderNames?.() ?? response.getHeaderNames();
}

/** `writeHead` takes an object, a flat list of names and values, or a list of pairs. */
export function headerEntries(headers: unknown): [string, string | number | readonly string[]][] {
  if (typeof headers !== 'object' || headers === null) return [];
  const given = headers as HeaderArgument;
  if (!Array.isArray(given)) {
    return Object.entries(given).filter(
      (entry): entry is [string, OutgoingHttpHeader] => entry[1] !== undefined,
    );
  }
  if (Array.isArray(given[0])) return given as unknown as [string, OutgoingHttpHeader][];
  const joined = new Map<string, [string, string | number | readonly string[]]>();
  for (let i = 0; i + 1 < given.length; i += 2) {
    const name = String(given[i]);
    const before = joined.get(name.toLowerCase());
    const value = given[i + 1] as string | number;
    joined.set(
      name.toLowerCase(),
      before ? [name, [...[before[1]].flat().map(String), String(value)]] : [name, value],
    );
  }
  return [...joined.values()];
}

/** As Node does when it writes the head, which for a held response is too late. */
export function assertStatusLine({ statusCode, statusMessage }: ServerResponse): void {
  const status = Math.trunc(statusCode);
  if (!(status >= 100 && status <= 999)) {
    throw Object.assign(new RangeError('Invalid status code'), { code: 'ERR_HTTP_INVALID_STATUS_CODE' });
  }
  validateHeaderValue('status message', statusMessage || '');
}

export function headersSentError(): Error {
  return Object.assign(new Error('Cannot set headers after they are sent to the client'), {
    code: 'ERR_HTTP_HEADERS_SENT',
  });
}
