import { RoutePattern } from '../../../lib/http/request/route-pattern';

describe('a pattern of a route', () => {
  it.each<[string, string, string | undefined, Record<string, string> | undefined]>([
    ['/', '/', '/', {}],
    ['/val', '/VAL/', '/val', {}],
    ['/val/', '/val', '/val/', {}],
    ['/Users/:id', '/users/Ann', '/Users/Ann', { id: 'Ann' }],
    ['/users/:id', '/users/', undefined, undefined],
    ['/users/:id', '/users/1/2', undefined, undefined],
    ['/files/:name.json', '/FILES/A.b.JSON', '/files/A.b.json', { name: 'A.b' }],
    ['/users{/:id}', '/USERS', '/users', {}],
    ['/users{/:id}', '/USERS/Ann/', '/users/Ann', { id: 'Ann' }],
    ['{/:lang}/home', '/HOME', '/home', {}],
    ['{/:lang}/home', '/De/HOME', '/De/home', { lang: 'De' }],
    ['/users/:id?', '/USERS/Ann', '/users/Ann', { id: 'Ann' }],
    ['/users/:id?', '/USERS', '/users', {}],
    // It may be text or parameter, so it stays as it is sent.
    ['/a{/B}{/:c}', '/a/b', undefined, undefined],
    ['/a{/:b}{/:c}', '/A/x', '/a/x', { b: 'x' }],
    ['/files/*', '/FILES/a//B/', '/files/a//B/', {}],
    ['/files/*path', '/FILES/a/B', '/files/a/B', {}],
    ['/files/*path/meta', '/files/a/b/meta', undefined, undefined],
    ['/at/:hour(^\\d{2})h:minute(^\\d{2})m', '/AT/08H15m', '/at/08H15m', {}],
    ['/:a-:b', '/X-Y', '/X-Y', {}],
    ['/a::b/:id', '/a:B/1', '/a:B/1', { id: '1' }],
    ['/caf\u00e9/~a', '/CAF%C3%A9/~A', '/caf%C3%A9/~a', {}],
    ['/{a}{b}{c}{d}{e}', '/ab', undefined, undefined],
  ])('%s takes %s for %s', (pattern, path, spelled, values) => {
    const match = new RoutePattern(pattern).match(path);
    expect(match?.path).toBe(spelled);
    expect(match?.values).toEqual(values);
  });

  it('names its parameters only where it is understood as a whole', () => {
    expect(new RoutePattern('/a/:b{/:c}').names).toEqual(['b', 'c']);
    expect(new RoutePattern('/a/:b/*').names).toEqual([]);
  });
});
