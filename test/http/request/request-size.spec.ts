import { Readable } from 'node:stream';
import type { PlatformRequest } from '../../../lib/http/platform';
import { bytesHeld } from '../../../lib/http/request/request-size';

const held = (request: object): number =>
  bytesHeld({ headers: {}, ...request } as unknown as PlatformRequest);

describe('what a waiting request holds', () => {
  it('is what its client has announced, whatever was made of it', () => {
    expect(held({ headers: { 'content-length': '12' }, body: 'x'.repeat(1_000) })).toBe(12);
    expect(held({ headers: { 'content-length': 'none' }, body: 'x' })).toBe(0);
  });

  it('is what was made of a body that came compressed, of which its client has announced a part', () => {
    const headers = { 'content-length': '12', 'content-encoding': 'gzip' };
    expect(held({ headers, body: 'x'.repeat(1_000) })).toBeGreaterThanOrEqual(1_000);
  });

  it.each<[string, object, number]>([
    ['texts and the names of their properties', { body: { name: 'abc', list: ['de', 1] } }, 16],
    [
      'bytes that the application keeps, and not what was parsed of them',
      { rawBody: Buffer.alloc(9), body: 'x' },
      9,
    ],
    ['files that middleware has taken out of the body', { file: { buffer: Buffer.alloc(50) } }, 6 + 50],
    ['what Fastify leaves on its own request', { raw: { headers: {}, body: 'other' }, body: 'abcd' }, 4],
    ['what Nest’s middleware leaves on Node’s request', { raw: { headers: {}, body: 'abcd' } }, 4],
  ])('is else the size of %s', (_, request, expected) => {
    const ofNothing = 1; // what counts where the part is missing
    expect(held(request) - held({})).toBe(expected - ofNothing);
  });

  it('counts what is referred to twice once, ends at circles, and knows nothing of other objects', () => {
    const part = { text: 'x'.repeat(500) };
    const circle: Record<string, unknown> = { part, again: part };
    circle.self = circle;
    expect(held({ body: circle })).toBeLessThan(600);
    const stream = Object.assign(new Readable({ read: () => undefined }), { text: 'x'.repeat(500) });
    expect(held({ body: { stream } })).toBeLessThan(50);
  });
});
