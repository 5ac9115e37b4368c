import { StreamableFile } from '@nestjs/common';
import { Stream } from 'node:stream';

/** What Nest itself sends piece by piece: a web `Response`, a web stream, a generator. An adapter takes it for an object. */
export function isStreamedByNest(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return isWebResponse(value) || (Symbol.asyncIterator in value && !('then' in value));
}

/** The status that it brings along. */
export function ownStatus(value: unknown): number | undefined {
  return isWebResponse(value) ? value.status : undefined;
}

/** Lets go of what a stream that will not be read reads from, such as an open file. */
export function discard(value: unknown): void {
  const stream: unknown =
    value instanceof StreamableFile ? value.getStream() : isWebResponse(value) ? value.body : value;
  if (stream instanceof Stream.Readable) stream.destroy();
  else if (stream instanceof ReadableStream && !stream.locked) stream.cancel().catch(() => undefined);
}

/** Also one of a library, or of another realm. */
function isWebResponse(value: unknown): value is Response {
  return Object.prototype.toString.call(value) === '[object Response]';
}
