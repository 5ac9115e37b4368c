import { StreamableFile } from '@nestjs/common';
import { AsyncResource } from 'node:async_hooks';
import { Readable } from 'node:stream';

/**
 * What a handler has returned to be read, so that it is read in the handler's async context. Nest reads it in its own,
 * where what a generator writes to the database would not be in the transaction of the request.
 */
export function contextBound(value: unknown): unknown {
  if (value instanceof StreamableFile) bind(value.getStream(), '_read');
  else if (value instanceof Readable) bind(value, '_read');
  else if (value instanceof ReadableStream) return webStream(value);
  else if (value instanceof Response && value.body) return new Response(webStream(value.body), value);
  else if (isAsyncGenerator(value)) bind(value, 'next');
  return value;
}

function bind<K extends string>(target: Record<K, (...args: never[]) => unknown>, name: K): void {
  const method = target[name];
  const value = AsyncResource.bind((...args: unknown[]): unknown => Reflect.apply(method, target, args));
  Object.defineProperty(target, name, { value, writable: true, configurable: true });
}

function webStream(source: ReadableStream): ReadableStream {
  const reader = source.getReader() as ReadableStreamDefaultReader<unknown>;
  return new ReadableStream<unknown>({
    pull: AsyncResource.bind(async (controller: ReadableStreamDefaultController<unknown>) => {
      const { done, value } = await reader.read();
      if (done) controller.close();
      else controller.enqueue(value);
    }),
    cancel: (reason) => reader.cancel(reason),
  });
}

function isAsyncGenerator(value: unknown): value is AsyncGenerator {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value && 'next' in value;
}
