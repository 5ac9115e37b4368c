import { IncomingMessage, OutgoingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInThisContext } from 'node:vm';
import { ResponseCapture } from '../../../lib/http/response/response-capture';

const responseOf = (): ServerResponse => {
  const request = new IncomingMessage(new Socket());
  request.method = 'POST';
  return new ServerResponse(request);
};
const hold = (response: ServerResponse): ResponseCapture => new ResponseCapture(response, 1_000, () => true);

/** What Node itself knows, while the response is held or not. */
const sentOf = (response: ServerResponse): unknown[] =>
  ['headersSent', 'writableEnded'].map(
    (name) => Reflect.get(OutgoingMessage.prototype, name, response) as unknown,
  );

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

  it('is held also where a patch of its class was undone, and ours with it', () => {
    hold(responseOf()).discard();
    const caught = ServerResponse.prototype.end;
    ServerResponse.prototype.end = OutgoingMessage.prototype.end as typeof caught;
    try {
      const response = responseOf();
      const capture = hold(response);
      response.end('body');
      expect(capture.writableEnded).toBe(true);
      expect(sentOf(response)).toEqual([false, false]);
      capture.send();
      expect(sentOf(response)).toEqual([true, true]);
    } finally {
      ServerResponse.prototype.end = caught;
    }
  });

  it('is held also where another application takes over that has no overrides, as the first has', () => {
    const native = ServerResponse.prototype;
    const first = Object.assign(Object.create(native) as ServerResponse, {
      end(this: ServerResponse, chunk: string): ServerResponse {
        return native.end.call(this, `${chunk} of the first`, 'utf8') as ServerResponse;
      },
    });
    const [overridden, passedOn] = [responseOf(), responseOf()];
    for (const response of [overridden, passedOn]) {
      Object.setPrototypeOf(response, first);
      const capture = hold(response);
      if (response === passedOn) Object.setPrototypeOf(response, Object.create(native) as object);
      response.end('body');
      expect(sentOf(response)).toEqual([false, false]);
      capture.send();
      expect(sentOf(response)).toEqual([true, true]);
    }
  });

  it('is shared with another copy of this module, within whose hold it is held', async () => {
    const response = responseOf();
    const outer = hold(response);
    let inner: ResponseCapture | undefined;
    jest.isolateModules(() => {
      const copy = jest.requireActual<typeof import('../../../lib/http/response/response-capture')>(
        '../../../lib/http/response/response-capture',
      );
      expect(copy.ResponseCapture).not.toBe(ResponseCapture);
      inner = new copy.ResponseCapture(response, 1_000, () => true);
    });
    response.setHeader('X-Own', '1');
    response.end('body');
    inner?.send();
    expect(await outer.ended).toMatchObject({ kind: 'response', headers: [['X-Own', '1']] });
    expect(sentOf(response)).toEqual([false, false]);
    outer.send();
    expect(sentOf(response)).toEqual([true, true]);
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
    expect(outer.writableEnded).toBe(true);
    expect(response.writableEnded).toBe(true);
  });
});
