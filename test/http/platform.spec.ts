import {
  rawRequest,
  rawResponse,
  userOf,
  type PlatformRequest,
  type PlatformResponse,
} from '../../lib/http/platform';

const request = (given: object): PlatformRequest => given as PlatformRequest;

describe('a request of either platform', () => {
  it('has Node’s own behind it, or is it', () => {
    const [raw, express] = [{ url: '/raw' }, { url: '/' }];
    expect(rawRequest(request({ raw }))).toBe(raw);
    expect(rawRequest(request(express))).toBe(express);
    expect(rawResponse({ raw } as unknown as PlatformResponse)).toBe(raw);
  });

  it('has the user that a guard has set, else the one that middleware has left on Node’s request', () => {
    const [guards, middlewares] = [{ id: 1 }, { id: 2 }];
    expect(userOf(request({ user: guards, raw: { user: middlewares } }))).toBe(guards);
    expect(userOf(request({ raw: { user: middlewares } }))).toBe(middlewares);
    expect(userOf(request({ raw: {} }))).toBeUndefined();
  });
});
