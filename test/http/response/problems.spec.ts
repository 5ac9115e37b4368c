import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { IdempotencyError } from '../../../lib/core/errors';
import { IdempotencyException, problemHeaders, problemResponse } from '../../../lib/http/response/problems';
import { aResponse } from '../../support/records';

const DOCS = 'https://api.example.com/docs';
const LINK = `<${DOCS}>; rel="describedby"; type="text/html"`;
const busy = new IdempotencyError('in_flight', 'Retry later.', { retryAfter: 3 });
const problem = JSON.stringify(new IdempotencyException(busy).getResponse());

const responseTo = (method: string, headers: Record<string, string | number> = {}): ServerResponse => {
  const request = new IncomingMessage(new Socket());
  request.method = method;
  const response = new ServerResponse(request);
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  return response;
};

describe('a problem document', () => {
  it('is what filters get, with a type that clients may depend on', () => {
    const exception = new IdempotencyException(busy);
    expect(exception).toMatchObject({ code: 'in_flight', retryAfter: 3, message: 'Retry later.' });
    expect(exception.getStatus()).toBe(409);
    expect(JSON.parse(problem)).toMatchObject({
      type: 'urn:problem-type:nestjs-idempotency:in-flight',
      status: 409,
    });
  });

  it('written without filters says when to retry, and keeps the headers of before but for those of a body', () => {
    const before = {
      vary: 'Origin',
      'content-length': 9,
      etag: 'x',
      'content-security-policy': 'none',
      link: '<a>',
    };
    const { status, headers, body } = problemResponse(busy, DOCS, before);
    expect(status).toBe(409);
    expect(Object.fromEntries(headers)).toEqual({
      vary: 'Origin',
      'content-security-policy': 'none',
      'Content-Type': 'application/problem+json; charset=utf-8',
      'Retry-After': '3',
      Link: `<a>, ${LINK}`,
    });
    expect(body.toString()).toBe(problem);
  });

  it('shows nothing of an error that is not ours', () => {
    const { status, body } = problemResponse(new Error('secret'), DOCS, {});
    expect([status, body.toString()]).toEqual([500, '{"statusCode":500,"message":"Internal server error"}']);
  });

  it.each<[string, Record<string, string>, Buffer]>([
    ['as it is', {}, Buffer.from(problem)],
    ['printed with spaces', {}, Buffer.from(JSON.stringify(JSON.parse(problem), null, 2))],
    ['compressed by gzip', { 'Content-Encoding': 'gzip' }, gzipSync(problem)],
    ['compressed by br', { 'Content-Encoding': 'br' }, brotliCompressSync(problem)],
  ])('that a filter sends %s gets its media type and the link', (_, headers, body) => {
    expect(problemHeaders(responseTo('POST', headers), aResponse({ body }), problem, DOCS)).toEqual({
      Link: LINK,
      'Content-Type': 'application/problem+json; charset=utf-8',
    });
  });

  it.each<[string, Record<string, string>, string]>([
    ['has another member', {}, problem.replace('{', '{"more":1,')],
    ['is no JSON', {}, 'busy'],
    ['says that it is compressed, and is not', { 'Content-Encoding': 'gzip' }, problem],
  ])('of which a filter has made a body that %s gets the link alone', (_, headers, body) => {
    const response = responseTo('POST', headers);
    expect(problemHeaders(response, aResponse({ body: Buffer.from(body) }), problem, DOCS)).toEqual({
      Link: LINK,
    });
  });

  it('in answer to HEAD is known by its length and form', () => {
    const typed = { 'Content-Type': 'application/json' };
    const answer = (length: number): object =>
      problemHeaders(
        responseTo('HEAD', { ...typed, 'Content-Length': length }),
        aResponse(),
        problem,
        undefined,
      );
    expect(answer(Buffer.byteLength(problem))).toHaveProperty('Content-Type');
    expect(answer(1)).toEqual({});
  });
});
