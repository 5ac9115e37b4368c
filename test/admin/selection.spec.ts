import { callersCalled, selectionToList, selectionToPurge } from '../../lib/admin/selection';
import { httpScope } from '../../lib/http/request/caller/http-scope';
import { callerOf } from '../../lib/core/scope-parts';

const routeOf = (route: string): RegExp => new RegExp(selectionToPurge('purge', { route }).route ?? '');
const callersOf = (principal: unknown): readonly string[] =>
  selectionToPurge('purge', { principal }).principals ?? [];

describe('a selection', () => {
  it.each([
    ['POST /api/leads', 'POST /api/leads', true],
    ['POST /api/leads', 'POST /api/leads user.id:s:u7', true],
    ['POST /api/leads', 'POST /api/leads/7', false],
    ['POST /api/leads', 'PUT /api/leads', false],
    ['/api/leads', 'PUT /api/leads', true],
    ['/leads', 'POST /api/leads', false],
    ['POST /leads/:id', 'POST /leads/7 scope:s:a', true],
    ['POST /leads/:id', 'POST /leads', false],
    ['POST /leads/:id', 'POST /leads/7/notes', false],
    ['POST /leads/:id/notes', 'POST /leads/7/notes', true],
    ['POST /files/*', 'POST /files/a/b/c', true],
    ['POST /a.c', 'POST /abc', false],
    ['POST /a%20b', 'POST /a%20b', true],
  ])('by the route %s finds %s: %s', (route, scope, found) => {
    expect(routeOf(route).test(scope)).toBe(found);
  });

  it.each([
    ['u7', { user: { id: 'u7' } }, true],
    ['u7', { user: { sub: 'u7' } }, true],
    ['u7', { user: { userId: 'u7' } }, true],
    ['u7', { scope: 'u7' }, true],
    ['7', { user: { id: 7 } }, false],
    [7, { user: { id: 7 } }, true],
    ['u7', { user: { id: 'u77' } }, false],
    ['u7', { scope: ['acme', 'u7'] }, false],
    [['acme', 'u7'], { scope: ['acme', 'u7'] }, true],
    [{ text: 'user.id:s:u7' }, { user: { id: 'u7' } }, true],
    ['user.id:s:u7', { user: { id: 'u7' } }, false],
    ['é %', { user: { id: 'é %' } }, true],
  ])('by the principal %j finds %j: %s', (principal, caller, found) => {
    const text = callerOf(httpScope('POST', '/leads', caller)) ?? '';
    expect(callersOf(principal).includes(text)).toBe(found);
  });

  it.each([
    [{}, 'no condition is given'],
    [{ pricipal: 'u7' }, '"pricipal" is unknown'],
    [{ principal: undefined, route: '/leads' }, '"principal" is undefined'],
    [{ principal: '' }, '"principal"'],
    [{ principal: {} }, '"principal'],
    [{ principal: { text: 'u7' } }, "must be a principal as `list` gives it, such as 'user.id:s:u7'"],
    [{ principal: { text: [] } }, 'must be a principal as `list` gives it'],
    [{ route: 'leads' }, '"route" is'],
    [{ olderThan: 'soon' }, '"olderThan" is'],
    // Postgres has no such time.
    [{ olderThan: '10000y' }, '"olderThan" is'],
    [{ state: 'completed' }, '"state" is unknown'],
    [undefined, 'must be an object'],
  ])('of a purge refuses %j', (filter, problem) => {
    expect(() => selectionToPurge('purge', filter)).toThrow(problem);
  });

  it('of a list may be empty, and has a state, a limit and a cursor', () => {
    expect(selectionToList('list', {})).toEqual({ selection: {}, limit: undefined, cursor: undefined });
    expect(selectionToList('list', { state: 'orphaned', olderThan: '1h', limit: 5, cursor: 'x' })).toEqual({
      selection: { state: 'orphaned', olderThan: 3_600_000 },
      limit: 5,
      cursor: 'x',
    });
    expect(() => selectionToList('list', { state: 'gone' })).toThrow('"state" is');
    expect(() => selectionToList('list', { limit: 0 })).toThrow('"limit" is');
  });

  it.each([
    ['u7', ['s:u7']],
    ['7', ['s:7', 'n:7', 'b:7']],
    ['007', ['s:007']],
    ['1e3', ['s:1e3']],
    ['-0', ['s:-0']],
    ['123456789012345678', ['s:123456789012345678', 'b:123456789012345678']],
  ])('takes the name %s, as it is typed, for %j', (name, texts) => {
    const ids = callersCalled(name).filter((caller) => caller.startsWith('user.id:'));
    expect(ids.sort()).toEqual(texts.map((text) => `user.id:${text}`).sort());
  });
});
