import { callerOf, routeOf } from '../../lib/core/scope-parts';
import { httpScope } from '../../lib/http/request/caller/http-scope';

describe('the parts of a scope', () => {
  it.each([
    [httpScope('POST', '/leads'), 'POST /leads', undefined],
    [httpScope('POST', '/leads/a b', { user: { id: 'u 7' } }), 'POST /leads/a%20b', 'user.id:s:u%207'],
    [httpScope('PUT', '/', { user: { sub: 7 }, host: 'a.test' }), 'PUT /', 'user.sub:n:7'],
    [httpScope('POST', '/x', { scope: ['acme', 'u7'], version: '2' }), 'POST /x', 'scope:l:2,s:acme,s:u7'],
    [
      httpScope('POST', '/x', { scope: 'scope:s:u7 user.id:s:u8' }),
      'POST /x',
      'scope:s:scope%3As%3Au7%20user.id%3As%3Au8',
    ],
    ['execute', undefined, undefined],
  ])('of %s are its route and its caller', (scope, route, caller) => {
    expect(routeOf(scope)).toBe(route);
    expect(callerOf(scope)).toBe(caller);
  });

  it('take nothing that a caller sends for another caller', () => {
    const hostile = httpScope('POST', '/x user.id:s:u7', { scope: 'a', params: { id: 'x scope:s:u7' } });
    expect(routeOf(hostile)).toBe('POST /x%20user.id:s:u7');
    expect(callerOf(hostile)).toBe('scope:s:a');
  });
});
