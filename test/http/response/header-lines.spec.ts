import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import {
  headerLinesOf,
  isRepeated,
  isUntouched,
  linesOf,
  listsAppend,
  setHeaderLines,
  writeHeaderLines,
} from '../../../lib/http/response/header-lines';

const responseTo = (method = 'POST'): ServerResponse => {
  const request = new IncomingMessage(new Socket());
  request.method = method;
  return new ServerResponse(request);
};
/** The head as it goes out. */
const headOf = (response: ServerResponse): string => (response as unknown as { _header: string })._header;

describe('header lines', () => {
  it('are read in the order and the case in which they were set', () => {
    const response = responseTo();
    setHeaderLines(response, [
      ['X-B', '1'],
      ['x-a', ['2', '3']],
    ]);
    expect(headerLinesOf(response)).toEqual([
      ['X-B', '1'],
      ['x-a', ['2', '3']],
    ]);
    expect([isUntouched(response), isUntouched(responseTo())]).toEqual([false, true]);
  });

  it('of one name are written as lines of their own, whether or not something was set before', () => {
    for (const before of [false, true]) {
      const response = responseTo();
      if (before) response.setHeader('X-Before', '0');
      writeHeaderLines(response, [['X-A', '1'], ['x-a', '2']], 4); // prettier-ignore
      response.flushHeaders();
      expect(headOf(response).match(/^x-a: .$/gim)).toHaveLength(2);
    }
  });

  it('get the length of the body where they frame none themselves, and never where there is no body', () => {
    const lengthIn = (response: ServerResponse, ...framing: [string, string][]): string | undefined => {
      writeHeaderLines(response, [['X-A', '1'], ['X-A', '2'], ...framing], 4); // prettier-ignore
      return /content-length: (\d+)/i.exec(headOf(response))?.[1];
    };
    expect(lengthIn(responseTo())).toBe('4');
    expect(lengthIn(responseTo(), ['Transfer-Encoding', 'chunked'])).toBeUndefined();
    expect(lengthIn(responseTo('HEAD'))).toBeUndefined();
  });

  it('are the same from each form that writeHead takes', () => {
    const lines = [
      ['A', '1'],
      ['B', '2'],
    ];
    for (const given of [{ A: '1', B: '2' }, ['A', '1', 'B', '2'], lines])
      expect(linesOf(given, true)).toEqual(lines);
    for (const nothing of [undefined, null, 'OK', []]) expect(linesOf(nothing, true)).toEqual([]);
    expect(() => linesOf(['A', '1', 'B'], true)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }) as Error,
    );
  });

  it('are repeated whatever the case of their name', () => {
    expect(isRepeated([['Vary', 'a'], ['vary', 'b']])).toBe(true); // prettier-ignore
    expect(isRepeated([['Vary', 'a'], ['Via', 'b']])).toBe(false); // prettier-ignore
  });

  it('append to those that were set before as this version of Node does it', () => {
    const response = responseTo();
    response.setHeader('A', '0');
    response.writeHead(200, ['B', '1', 'B', '2']);
    expect((headOf(response).match(/^B: /gm) ?? []).length > 1).toBe(listsAppend());
  });
});
