import { httpScope } from '../../../../lib/http/request/caller/http-scope';

describe('the scope that an operator spells', () => {
  it('is one for all spellings of a method and a path', () => {
    expect(httpScope('post', '/%7euser')).toBe(httpScope('POST', '/~user'));
    expect(httpScope('POST', '')).toBe(httpScope('POST', '/'));
  });

  it('is that of the `scope` option before that of the user, and of the user before that of credentials', () => {
    const credentials = { Authorization: 'Bearer a' };
    const [scope, user] = ['tenant', { id: 7 }];
    expect(httpScope('POST', '/', { scope, user, credentials })).toBe(httpScope('POST', '/', { scope }));
    expect(httpScope('POST', '/', { user, credentials })).toBe(httpScope('POST', '/', { user }));
    expect(httpScope('POST', '/', { credentials })).not.toBe(httpScope('POST', '/'));
  });

  it('has credentials in any case of their names, and other headers do not count', () => {
    const scope = httpScope('POST', '/', { credentials: { Authorization: 'Bearer a' } });
    expect(httpScope('POST', '/', { credentials: { authorization: 'Bearer a', Accept: '*/*' } })).toBe(scope);
    expect(scope).not.toContain('Bearer a');
  });

  it('is another under a secret, which needs 32 bytes', () => {
    const credentials = { Authorization: 'Bearer a' };
    const keyed = httpScope('POST', '/', { credentials, secret: 's'.repeat(32) });
    expect(keyed).not.toBe(httpScope('POST', '/', { credentials }));
    expect(() => httpScope('POST', '/', { credentials, secret: 'short' })).toThrow(/at least 32 bytes/);
  });

  it('counts the headers that `credentialHeaders` names', () => {
    const of = (value: string): string =>
      httpScope('POST', '/', { credentials: { 'X-Acme': value }, credentialHeaders: ['X-Acme'] });
    expect(of('a')).not.toBe(of('b'));
  });
});
