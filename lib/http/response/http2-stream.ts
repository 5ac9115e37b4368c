import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { isHttp2 } from '../platform';

type Args = readonly unknown[];
type Method = 'writeHead' | 'write' | 'end';
type Callable = (...args: Args) => unknown;

/** Of the response that a stream belongs to. */
interface Hold {
  passes(method: Method): boolean;
  answer(method: Method, args: Args): unknown;
}

/**
 * Leads what a writer calls on the stream below an HTTP/2 response to the response: sent past its hold, the answer could
 * not be recorded, and each retry would wait for it in vain.
 * @param holdOf the hold on the response; undefined if it may be written
 */
export function guardStream(response: ServerResponse, holdOf: () => Hold | undefined): void {
  if (!isHttp2(response)) return;
  const stream = response.stream as unknown as Record<string, Callable | undefined>;
  const guard = (name: string, method: Method, instead: (hold: Hold, args: Args) => unknown): void => {
    const native = stream[name];
    if (!native) return;
    stream[name] = (...args) => {
      const hold = holdOf();
      return hold && !hold.passes(method) ? instead(hold, args) : Reflect.apply(native, stream, args);
    };
  };
  guard('respond', 'writeHead', respond);
  guard('write', 'write', (hold, args) => hold.answer('write', args));
  guard('end', 'end', (hold, args) => {
    hold.answer('end', args);
    return stream;
  });
  for (const name of ['respondWithFile', 'respondWithFD'])
    guard(name, 'writeHead', () => refuse(`stream.${name}()`));
}

function respond(hold: Hold, [headers, options]: Args): void {
  const { endStream = false, waitForTrailers = false } = (options ?? {}) as Partial<Record<string, boolean>>;
  if (waitForTrailers) refuse('stream.respond() with trailers');
  if (Array.isArray(headers)) refuse('stream.respond() with a list');
  const { ':status': status = 200, ...others } = (headers ?? {}) as OutgoingHttpHeaders;
  hold.answer('writeHead', [status, others]);
  if (endStream) hold.answer('end', []);
}

function refuse(call: string): never {
  throw new Error(
    `${call} would send the response before it is recorded. ` +
      'In a handler with @Idempotent(), call writeHead(), write() and end() of the response.',
  );
}
