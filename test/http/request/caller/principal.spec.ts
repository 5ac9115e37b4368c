import { plainDigest } from '../../../../lib/core/digest';
import {
  principalOfCredentials,
  principalOfScope,
  principalOfUser,
} from '../../../../lib/http/request/caller/principal';

const ofHeaders = (headers: Record<string, string>): unknown =>
  principalOfCredentials(
    { headers, rawHeaders: Object.entries(headers).flat() },
    { headers: [], credentialHeaders: undefined },
    plainDigest,
  );

describe('a principal', () => {
  it.each<[object, object]>([
    [{ id: 7, sub: 'a' }, { user: ['id', 7] }],
    [{ id: null, sub: 'a', userId: 'b' }, { user: ['sub', 'a'] }],
    [{ userId: 7n }, { user: ['userId', 7n] }],
    [{ id: 0 }, { user: ['id', 0] }],
    [{ id: -0.5 }, { user: ['id', -0.5] }],
    [{ id: 2 ** 53 - 1 }, { user: ['id', 2 ** 53 - 1] }],
  ])('of the user %p is the first of id, sub and userId that is there', (user, principal) => {
    expect(principalOfUser(user)).toEqual(principal);
  });

  it.each([{}, { name: 'a' }, { id: '' }, { id: NaN }, { id: 2 ** 53 }, { id: {} }, { id: true, sub: 'a' }])(
    'of the user %p is refused, as all such users would be one',
    (user) => {
      expect(() => principalOfUser(user)).toThrow(/set the `scope` option/);
    },
  );

  it('of the `scope` option is what it gave, type and all, and none where it gave undefined', () => {
    expect(principalOfScope('1')).not.toEqual(principalOfScope(1));
    expect(principalOfScope(['a', 2])).toEqual({ scope: ['a', 2] });
    expect(principalOfScope(undefined)).toBeUndefined();
    for (const answer of ['', NaN, 1e21, [], [''], {}, null, [['a']]])
      expect(() => principalOfScope(answer)).toThrow(/`scope` option must return/);
  });

  it('of credentials is a digest that shows none of them', () => {
    const principal = ofHeaders({ authorization: 'Bearer secret-token' });
    expect(JSON.stringify(principal)).not.toContain('secret-token');
    expect(principal).not.toEqual(ofHeaders({ authorization: 'Bearer other-token' }));
    expect(ofHeaders({ accept: 'text/html' })).toBeUndefined();
  });

  it('of credentials that are made anew for each request is refused, unless others last', () => {
    const signed = { authorization: 'Digest username="a", nonce="b"' };
    expect(() => ofHeaders(signed)).toThrow(/made anew for each request/);
    expect(ofHeaders({ ...signed, 'x-api-key': 'k' })).toBeDefined();
  });
});
