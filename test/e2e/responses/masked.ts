import { gunzipSync } from 'node:zlib';
import { headerOf, type WireResponse } from '../../support/wire';

/** Made from the body, which no two runs have in common. */
const OF_THE_BODY = /^(etag): .*/i;
const FRAMING = /^(content-length|transfer-encoding):/i;

/** As Express sends a `Buffer`: the ids in it are not seen before it is read. */
const BUFFER_AS_JSON = /"data":\[([\d,]+)\]/;

/** What two runs of one handler have in common: all but the moments, ids and random numbers in it. */
export function masked(text: string): string {
  return text
    .replace(BUFFER_AS_JSON, (_, bytes: string) =>
      Buffer.from(bytes.split(',').map(Number)).toString('latin1'),
    )
    .replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, '(id)')
    .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g, '(moment)')
    .replace(/\b0\.\d+/g, '(number)');
}

/**
 * What the responses to two runs of one handler have in common. A body may come in chunks or with its length; which of
 * them its reader has checked already.
 */
export function maskedResponse({ statusLine, headerLines, body, trailerLines }: WireResponse): string {
  const lines = headerLines
    .filter((line) => !/^date:/i.test(line) && !(body.length > 0 && FRAMING.test(line)))
    .map((line) => line.replace(OF_THE_BODY, '$1: (of the body)'));
  return masked([statusLine, ...lines, '', contentOf({ headerLines, body }), ...trailerLines].join('\r\n'));
}

/** The body before it was compressed, if it was. */
export function contentOf({ headerLines, body }: Pick<WireResponse, 'headerLines' | 'body'>): string {
  return uncompressed(body, headerOf(headerLines, 'content-encoding'));
}

export function uncompressed(body: Buffer, encoding: string | undefined): string {
  return (encoding === 'gzip' ? gunzipSync(body) : body).toString('latin1');
}
