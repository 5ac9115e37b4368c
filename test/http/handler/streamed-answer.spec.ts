import { StreamableFile } from '@nestjs/common';
import { Readable } from 'node:stream';
import { discard, isStreamedByNest, ownStatus } from '../../../lib/http/handler/streamed-answer';

async function* generator(): AsyncGenerator<string> {
  yield 'a';
}
const webStream = (cancelled: unknown[]): ReadableStream =>
  new ReadableStream({ cancel: (reason) => void cancelled.push(reason) });

describe('an answer of a handler', () => {
  it.each<[string, unknown]>([
    ['a web Response', new Response('a')],
    ['one without a body', new Response(null, { status: 204 })],
    ['a web stream', webStream([])],
    ['a generator', generator()],
    ['a stream of Node', Readable.from(['a'])],
  ])('is sent piece by piece by Nest: %s', (_, value) => {
    expect(isStreamedByNest(value)).toBe(true);
  });

  it.each<[string, unknown]>([
    ['nothing', undefined],
    ['null', null],
    ['a text', 'a'],
    ['a list', ['a']],
    ['bytes', Buffer.from('a')],
    ['a file, which an adapter sends', new StreamableFile(Buffer.from('a'))],
    ['a query that stands for its result', Object.assign(generator(), { then: () => undefined })],
  ])('is sent by an adapter: %s', (_, value) => {
    expect(isStreamedByNest(value)).toBe(false);
  });

  it('has a status of its own if it is a web Response', () => {
    expect(ownStatus(new Response('a', { status: 202 }))).toBe(202);
    expect(ownStatus({ status: 202 })).toBeUndefined();
  });

  it('lets go of its source where it is not sent', () => {
    const [stream, source] = [Readable.from(['a']), Readable.from(['a'])];
    const cancelled: unknown[] = [];
    const response = new Response(webStream(cancelled));
    for (const value of [stream, new StreamableFile(source), response, webStream(cancelled)]) discard(value);
    expect([stream.destroyed, source.destroyed, cancelled.length]).toEqual([true, true, 2]);
    const read = new Response(webStream(cancelled));
    read.body?.getReader();
    for (const value of [undefined, 'a', {}, new Response(null), read]) discard(value);
    expect(cancelled).toHaveLength(2);
  });
});
