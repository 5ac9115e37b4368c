import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { IdempotencyError } from '../../../lib/core/errors';
import type { PlatformResponse } from '../../../lib/http/platform';
import { IdempotencyException } from '../../../lib/http/response/problems';
import { notStored, refusalOf } from '../../../lib/http/response/refusal';

const DOCS = 'https://api.example.com/docs';
const busy = new IdempotencyError('in_flight', 'Retry later.', { retryAfter: 3 });

/** What a client gets of a refusal that a filter answers. */
async function answerOf(filter: (exception: unknown, response: ServerResponse) => void): Promise<Response> {
  const server = createServer((_, response) =>
    filter(refusalOf(response as unknown as PlatformResponse, busy, DOCS), response),
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const answer = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`, {
      method: 'POST',
    });
    await answer.clone().text();
    return answer;
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

describe('a refusal before the handler has run', () => {
  it('is a problem document where a filter sends it as it is', async () => {
    const answer = await answerOf((exception, response) => {
      response.statusCode = (exception as IdempotencyException).getStatus();
      response.setHeader('Content-Type', 'application/json');
      response.end(JSON.stringify((exception as IdempotencyException).getResponse()));
    });
    expect([answer.status, answer.headers.get('retry-after')]).toEqual([409, '3']);
    expect(answer.headers.get('content-type')).toBe('application/problem+json; charset=utf-8');
    expect(answer.headers.get('link')).toContain(DOCS);
  });

  it('is what a filter makes of it, and has the link and the time to retry anyway', async () => {
    const answer = await answerOf((_, response) => response.end('busy'));
    expect([await answer.text(), answer.headers.get('retry-after')]).toEqual(['busy', '3']);
    expect(answer.headers.get('content-type')).toBeNull();
    expect(answer.headers.get('link')).toContain(DOCS);
  });

  it('is any other error as it is', () => {
    const error = new Error('own');
    expect(refusalOf({} as PlatformResponse, error, DOCS)).toBe(error);
  });

  it('is what the application’s middleware failed with on its way', () => {
    const error = new Error('setHeader is wrapped');
    const raw = {
      headersSent: false,
      setHeader: () => {
        throw error;
      },
    };
    expect(refusalOf({ raw } as unknown as PlatformResponse, busy, DOCS)).toBe(error);
  });

  it('leaves a response alone that was answered meanwhile', () => {
    const raw = { headersSent: true };
    expect(refusalOf({ raw } as unknown as PlatformResponse, busy, DOCS)).toBeInstanceOf(
      IdempotencyException,
    );
  });

  it('of a response that was not stored says why, and which status it had', () => {
    expect(notStored({ reason: 'too_large', status: 201 }).message).toMatch(/status 201.*too large/);
    expect(notStored({ reason: 'unstorable', status: 500 }).message).toMatch(
      /status 500.*could not be stored/,
    );
    expect(notStored({ reason: 'unreadable', status: 201 }).message).toMatch(/status 201.*cannot be read/);
  });
});
