import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { bodyOf, rawRequest, type PlatformRequest } from '../http/platform';

/** What browsers send. */
export const FORM_TYPE = 'application/x-www-form-urlencoded';

/** Bytes of a form that the application has not parsed. */
const MOST = 1024 * 1024;

/** The fields of a form, or the status with which it is refused: 400 if it was read by others and is not there. */
export async function formOf(request: PlatformRequest): Promise<URLSearchParams | 400 | 413 | 415> {
  const raw = rawRequest(request);
  const [type = ''] = (raw.headers['content-type'] ?? '').split(';');
  if (type.trim().toLowerCase() !== FORM_TYPE) return 415;
  const body = bodyOf(request);
  const kept = [body, request.rawBody, (raw as { readonly rawBody?: unknown }).rawBody].find(
    (each) => typeof each === 'string' || Buffer.isBuffer(each),
  );
  if (kept !== undefined) return new URLSearchParams(String(kept));
  // Parsers make lists and objects of some names; the board's forms have no such fields.
  const texts = Object.entries(body instanceof Readable ? {} : (body ?? {})).filter(
    (field): field is [string, string] => typeof field[1] === 'string',
  );
  if (texts.length > 0) return new URLSearchParams(texts);
  // A parser of another type may leave an empty object. What was read to its end never ends again.
  return raw.readableDidRead ? 400 : read(raw);
}

/** With `bodyParser: false` the body is still to come. One that is too long is read to its end, and not kept. */
function read(request: IncomingMessage): Promise<URLSearchParams | 413> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= MOST) chunks.push(chunk);
    });
    request.on('end', () =>
      resolve(size > MOST ? 413 : new URLSearchParams(Buffer.concat(chunks).toString())),
    );
    request.on('error', reject);
  });
}
