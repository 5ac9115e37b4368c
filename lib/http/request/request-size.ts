import { rawRequest, type PlatformRequest } from '../platform';

/**
 * Bytes of the body that a request holds while it waits: as its client has announced them, else what was made of it.
 * Those of a compressed body say nothing of what it holds. How much its connection has brought is not a measure, as that
 * counts all requests before it.
 */
export function bytesHeld(request: PlatformRequest): number {
  const raw = rawRequest(request);
  const { 'content-length': announced, 'content-encoding': coding } = raw.headers;
  if (announced !== undefined && coding === undefined) return Number(announced) || 0;
  const { body, file, files } = raw as unknown as Parsed;
  const own = request as unknown as Parsed;
  return sizeOf([request.rawBody ?? own.body ?? body, own.file ?? file, own.files ?? files]);
}

type Parsed = Partial<Record<'body' | 'file' | 'files', unknown>>;

/** About what texts and bytes in plain objects and lists take; each counts once. Of other objects nothing is known. */
function sizeOf(value: unknown): number {
  const seen = new Set<object>();
  const left = [value];
  let size = 0;
  while (left.length > 0) {
    const next = left.pop();
    if (typeof next === 'string') size += next.length;
    else if (next instanceof Uint8Array) size += next.byteLength;
    else if (typeof next !== 'object' || next === null) size += 1;
    else if (!seen.has(next) && isPlain(next)) {
      seen.add(next);
      for (const [name, each] of Object.entries(next)) {
        size += name.length;
        left.push(each);
      }
    }
  }
  return size;
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype || Array.isArray(value);
}
