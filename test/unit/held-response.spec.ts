import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInThisContext } from 'node:vm';
import { ResponseCapture } from '../../lib/http/response-capture';

const responseOf = (): ServerResponse => {
  const request = new IncomingMessage(new Socket());
  request.method = 'POST';
  return new ServerResponse(request);
};
const hold = (response: ServerResponse): ResponseCapture => new ResponseCapture(response, 1_000, () => true);

describe('a response that is held', () => {
  it('looks sent and ended to its writer', () => {
    const response = responseOf();
    hold(response);
    expect([response.headersSent, response.writableEnded]).toEqual([false, false]);
    response.flushHeaders();
    expect([response.headersSent, response.writableEnded]).toEqual([true, false]);
    response.end('body');
    expect([response.headersSent, response.writableEnded]).toEqual([true, true]);
  });

  it('does what Node does once it is sent', () => {
    const [response, untouched] = [responseOf(), responseOf()];
    const capture = hold(response);
    response.end('body');
    capture.send();
    untouched.end('body');
    for (const each of [response, untouched]) {
      expect(each).toMatchObject({ headersSent: true, writableEnded: true });
      expect(() => each.setHeader('X-Late', '1')).toThrow('after they are sent');
    }
  });

  it('loses what a writer has put on it meanwhile', () => {
    const response = responseOf();
    const capture = hold(response);
    const end = response.end.bind(response);
    let ends = 0;
    response.end = (chunk: unknown) => ((ends += 1), end(chunk));
    response.end('body');
    capture.send();
    expect(ends).toBe(1);
    expect(response.writableEnded).toBe(true);
  });

  it('keeps one shape with all others, held or let go, so that code that meets it stays fast', () => {
    setFlagsFromString('--allow-natives-syntax');
    const sameShape = runInThisContext('(a, b) => %HaveSameMap(a, b)') as (a: object, b: object) => boolean;
    const [held, sent] = [responseOf(), responseOf()];
    for (const response of [held, sent]) {
      const capture = hold(response);
      if (response === sent) capture.discard();
    }
    expect(sameShape(held, sent)).toBe(true);
    expect(sameShape(held, responseOf())).toBe(true);
    expect(sameShape(held, Object.assign(responseOf(), { more: 1 }))).toBe(false); // it does compare
  });

  it('has what middleware has put on it again once it is sent', () => {
    const response = responseOf();
    const ends: unknown[] = [];
    const wrapped = (chunk: unknown): ServerResponse => (ends.push(String(chunk)), response);
    response.end = wrapped;
    const capture = hold(response);
    response.end('body');
    expect(ends).toEqual([]);
    capture.send();
    expect(response.end).toBe(wrapped);
    expect(ends).toEqual(['body']);
  });

  it('is told apart from one that is held by another within it', () => {
    const response = responseOf();
    const outer = hold(response);
    const inner = hold(response);
    response.end('body');
    expect(response.writableEnded).toBe(true);
    inner.send();
    expect(outer.over).toBe(true);
    expect(response.writableEnded).toBe(true);
  });
});
