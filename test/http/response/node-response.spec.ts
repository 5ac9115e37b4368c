import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import {
  assertHeaderLine,
  assertStatusLine,
  bytesOf,
  callbackIn,
  hasBody,
  keptHeaders,
} from '../../../lib/http/response/node-response';

const responseTo = (method: string): ServerResponse => {
  const request = new IncomingMessage(new Socket());
  request.method = method;
  return new ServerResponse(request);
};
const codeOf = (work: () => unknown): unknown => {
  try {
    work();
  } catch (error) {
    return (error as { code?: unknown }).code;
  }
  return undefined;
};

describe('a response of Node', () => {
  it.each<[string, number, boolean]>([
    ['POST', 200, true],
    ['HEAD', 200, false],
    ['POST', 204, false],
    ['POST', 304, false],
  ])('to %s with status %i has a body: %p', (method, status, expected) => {
    expect(hasBody(responseTo(method), status)).toBe(expected);
  });

  it.each<[string, unknown, string | undefined]>([
    ['a status', 99, undefined],
    ['a status', 'abc', undefined],
    ['a reason phrase', 200, 'a\r\nb'],
    ['a reason phrase', 200, 'ā'],
    ['nothing of', 200, 'déjà vu'],
  ])('refuses what Node itself refuses: %s %p %p', (_, status, reason) => {
    const own = codeOf(() => assertStatusLine(status, reason));
    expect(own).toBe(codeOf(() => responseTo('POST').writeHead(status as number, reason)));
  });

  it.each<[string, string | string[]]>([
    ['X A', '1'],
    ['X-A', 'a\nb'],
    ['X-A', ['1', '\0']],
    ['X-A', ['1', '2']],
  ])('refuses the header that Node refuses: %s: %j', (name, value) => {
    expect(codeOf(() => assertHeaderLine([name, value]))).toBe(
      codeOf(() => responseTo('POST').setHeader(name, value)),
    );
  });

  it.each<[unknown, unknown]>([
    ['é', undefined],
    ['6869', 'hex'],
    [Buffer.from('a'), undefined],
    [new Uint8Array([1, 2]), undefined],
  ])('has the bytes that were written: %p %p', (chunk, encoding) => {
    const expected =
      typeof chunk === 'string'
        ? Buffer.from(chunk, encoding as BufferEncoding)
        : Buffer.from(chunk as Uint8Array);
    expect(bytesOf(chunk, encoding).equals(expected)).toBe(true);
  });

  it.each([null, undefined, 1, {}, new DataView(new ArrayBuffer(1))])(
    'refuses to write %p, as Node does',
    (chunk) => {
      const response = responseTo('POST');
      response.on('error', () => undefined);
      expect(codeOf(() => bytesOf(chunk, undefined))).toBe(codeOf(() => response.write(chunk)));
    },
  );

  it('keeps what belongs to every retry, the reason phrase where it is no usual one, and what the filter lets pass', () => {
    const lines = [
      ['X-A', 1],
      ['Set-Cookie', 'a=b'],
      ['Vary', ['x', 'y']],
      ['X-Secret', 's'],
    ] as const;
    const seen: [string, unknown][] = [];
    const keeps = (name: string, value: unknown): boolean => {
      seen.push([name, value]);
      return name !== 'x-secret';
    };
    expect(keptHeaders(200, 'Fine', lines, keeps)).toEqual([
      [':reason', 'Fine'],
      ['X-A', '1'],
      ['Vary', ['x', 'y']],
    ]);
    expect(seen.map(([name]) => name)).toEqual(['x-a', 'vary', 'x-secret']);
    expect(keptHeaders(200, 'OK', [], keeps)).toEqual([]);
  });

  it('calls back the function that is named last, wherever that is', () => {
    const callback = (): void => undefined;
    for (const args of [[callback], ['a', callback], ['a', 'utf8', callback]])
      expect(callbackIn(args)).toBe(callback);
    expect(callbackIn(['a'])).toBeUndefined();
  });
});
