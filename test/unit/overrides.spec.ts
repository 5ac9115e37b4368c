import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
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

  it('is Node’s own again once it is sent', () => {
    const [response, untouched] = [responseOf(), responseOf()];
    const capture = hold(response);
    response.end('body');
    capture.send();
    for (const name of ['end', 'write', 'setHeader', 'destroy', 'headersSent', 'writableEnded'])
      expect([name, Object.hasOwn(response, name)]).toEqual([name, Object.hasOwn(untouched, name)]);
    expect(Object.getOwnPropertySymbols(response)).toEqual(Object.getOwnPropertySymbols(untouched));
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
