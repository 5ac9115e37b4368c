import { Readable } from 'node:stream';
import { attempt, isReplay, isSame, isToRetry, textOf } from '../../../lib/testing/once/attempt';

/** What packages such as undici and node-fetch give: not an instance of the global class. */
class OtherResponse {
  readonly headers: Headers;

  constructor(
    readonly status: number,
    private readonly content: string,
    headers: Record<string, string> = {},
  ) {
    this.headers = new Headers(headers);
  }

  clone = (): OtherResponse => new OtherResponse(this.status, this.content, Object.fromEntries(this.headers));
  text = async (): Promise<string> => this.content;
}

const replayed = { 'idempotent-replayed': 'true' };

describe('a try of a function that sends the request itself', () => {
  it('is read as a response, whichever fetch made it', async () => {
    const replay = await attempt(() => new OtherResponse(201, 'lead 1', replayed));
    const first = await attempt(() => new Response('lead 1', { status: 201 }));
    expect([isReplay(replay), textOf(replay)]).toEqual([true, '201 lead 1']);
    expect(isSame(first, replay, [])).toBe(true);
    const refused = await attempt(() => new OtherResponse(409, '', { 'retry-after': '1' }));
    expect(isToRetry(refused)).toBe(true);
  });

  it.each([
    ['text', 'of supertest', 'lead 1', 'lead 2'],
    ['payload', 'of inject()', 'lead 1', 'lead 2'],
    ['data', 'of axios', { lead: 1 }, { lead: 2 }],
    ['body', 'of got', 'lead 1', 'lead 2'],
    ['body', 'in bytes', Buffer.from('lead 1'), Buffer.from('lead 2')],
  ])('is compared by its %s %s', async (name, _, one, other) => {
    const answer = (content: unknown) => attempt(() => ({ statusCode: 201, headers: {}, [name]: content }));
    expect(isSame(await answer(one), await answer(one), [])).toBe(true);
    expect(isSame(await answer(one), await answer(other), [])).toBe(false);
  });

  it.each<[client: string, error: object]>([
    ['axios', { response: { status: 409, headers: { 'retry-after': '1' }, data: 'busy' } }],
    ['got', { response: { statusCode: 409, headers: { 'retry-after': '1' }, body: 'busy' } }],
    ['ky', { response: new Response('busy', { status: 409, headers: { 'retry-after': '1' } }) }],
    ['undici', { statusCode: 409, headers: { 'retry-after': '1' }, body: 'busy' }],
  ])('is a response also where %s throws it', async (_, error) => {
    const refused = await attempt(() => Promise.reject(Object.assign(new Error('409'), error)));
    expect([isToRetry(refused), textOf(refused)]).toEqual([true, '409 busy']);
  });

  it('is a response also where its body was read for the error, as ofetch does', async () => {
    const refused = await attempt(async () => {
      const response = new Response('busy', { status: 409, headers: { 'retry-after': '1' } });
      throw Object.assign(new Error('409'), { response, data: await response.text() });
    });
    expect([isToRetry(refused), textOf(refused)]).toEqual([true, '409 busy']);
  });

  it.each([
    new Error('no connection'),
    'text',
    undefined,
    { response: { statusCode: 409, message: 'busy' } },
  ])('is an error where nothing was answered: %s', async (error) => {
    // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- JavaScript may throw anything
    expect(await attempt(() => Promise.reject(error))).toEqual({ kind: 'error', error });
  });

  it.each([
    ['of Node', () => Readable.from(['lead 1'])],
    ['of the web', () => new Response('lead 1').body],
  ])('fails where its body is a stream %s that was not read', async (_, body) => {
    const unread = await attempt(() => ({ statusCode: 201, headers: {}, body: body() }));
    expect(textOf(unread)).toMatch(/body is a stream.*give back \{ statusCode, headers, text \}/);
  });
});
