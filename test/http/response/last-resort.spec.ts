import { Logger } from '@nestjs/common';
import { createServer, get, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { sendOrFail } from '../../../lib/http/response/last-resort';

/** What a client gets of a response that is sent so. */
function answerOf(
  send: (response: ServerResponse) => unknown,
): Promise<{ status?: number; text: string; cut: boolean }> {
  return new Promise((resolve, reject) => {
    const server = createServer((_, response) => sendOrFail(response, () => send(response)));
    const end = (result: { status?: number; text: string; cut: boolean }): void => {
      server.closeAllConnections();
      server.close(() => resolve(result));
    };
    server.listen(0, '127.0.0.1', () => {
      get({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', agent: false }, (message) => {
        let text = '';
        message.on('data', (chunk) => (text += String(chunk)));
        message.on('error', () => end({ status: message.statusCode, text, cut: true }));
        message.on('end', () => end({ status: message.statusCode, text, cut: false }));
      }).on('error', (error) =>
        'code' in error && error.code === 'ECONNRESET' ? end({ text: '', cut: true }) : reject(error),
      );
    });
  });
}

describe('a response that no exception filter can answer', () => {
  let logged: number;
  beforeEach(() => {
    logged = 0;
    jest.spyOn(Logger.prototype, 'error').mockImplementation(() => void (logged += 1));
  });
  afterEach(() => jest.restoreAllMocks());

  it('is sent as it is', async () => {
    expect(await answerOf((response) => response.end('made'))).toEqual({
      status: 200,
      text: 'made',
      cut: false,
    });
    expect(logged).toBe(0);
  });

  it.each<[string, (response: ServerResponse) => unknown]>([
    [
      'throws',
      (response) => {
        response.setHeader('Content-Encoding', 'gzip');
        throw new Error('refused');
      },
    ],
    [
      'rejects',
      (response) => {
        response.setHeader('Transfer-Encoding', 'chunked');
        return Promise.reject(new Error('refused'));
      },
    ],
  ])('is 500, and logged once, where its sending %s', async (_, send) => {
    expect(await answerOf(send)).toEqual({
      status: 500,
      text: '{"statusCode":500,"message":"Internal server error"}',
      cut: false,
    });
    expect(logged).toBe(1);
  });

  it('is cut where a part of it went out', async () => {
    const answer = await answerOf((response) => {
      response.writeHead(200, { 'Content-Length': 100 });
      response.write('part');
      throw new Error('refused');
    });
    expect(answer.cut).toBe(true);
  });

  it('is cut where 500 cannot be sent either', async () => {
    const answer = await answerOf((response) => {
      response.end = () => {
        throw new Error('refused again');
      };
      throw new Error('refused');
    });
    expect(answer).toEqual({ text: '', cut: true });
  });

  it('is left alone where it failed after its end', async () => {
    const large = 'x'.repeat(20_000_000); // more than goes out at once
    const answer = await answerOf((response) => {
      response.end(large);
      throw new Error('too late');
    });
    expect([answer.status, answer.cut, answer.text.length]).toEqual([200, false, large.length]);
  });
});
