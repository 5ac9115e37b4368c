import { UnauthorizedException } from '@nestjs/common';
import { byUser, type ScopeAnswer } from '../../../../lib';
import { contextOf } from '../../../support/request-context';

interface AuthedRequest {
  readonly user: { readonly tenant: string; readonly sub: string | number };
}

const scopeOf = (user: unknown) =>
  byUser((request: AuthedRequest) => [request.user.tenant, request.user.sub])(contextOf({ user }));

/** Whatever the types say, as JavaScript lets a function answer it. */
const answered = (answer: unknown) => byUser(() => answer as ScopeAnswer)(contextOf({}));

describe('a scope by user', () => {
  it('is what the function names', async () => {
    expect(await scopeOf({ tenant: 'acme', sub: 7 })).toEqual(['acme', 7]);
    expect(await answered('u_1')).toBe('u_1');
    expect(await answered(7n)).toBe(7n);
    expect(await answered(0)).toBe(0);
    expect(await answered(Promise.resolve('u_1'))).toBe('u_1');
  });

  it.each<[unknown]>([
    [undefined],
    [null],
    [''],
    [NaN],
    [Infinity],
    [-(2 ** 53)],
    [{}],
    [true],
    [[]],
    [[undefined]],
    [new Array<string>(1)],
    [[['acme', 'u_1']]],
    [Promise.resolve(undefined)],
  ])('is refused where the function names nobody: %p', async (answer) => {
    await expect(answered(answer)).rejects.toThrow(TypeError);
    await expect(answered(answer)).rejects.toThrow(/the user's name is missing.*guard or middleware/);
  });

  it.each<[unknown, RegExp]>([
    [{ tenant: 'acme' }, /part 2 of the user's name is missing/],
    [{ sub: 7 }, /part 1 of the user's name is missing/],
    [{ tenant: '', sub: 7 }, /part 1 of/],
    [undefined, /could not read the user of this request: .*undefined.*guard or middleware/],
  ])('is refused where a part of it is missing in %j', async (user, message) => {
    await expect(scopeOf(user)).rejects.toThrow(message);
  });

  it('shows no name of a user in its refusal', async () => {
    await expect(scopeOf({ tenant: 'secret-tenant' })).rejects.not.toThrow(/secret-tenant/);
  });

  it('lets the application refuse the request by an exception of its own', async () => {
    const refusal = new UnauthorizedException();
    const scope = byUser(() => {
      throw refusal;
    });
    await expect(scope(contextOf({}))).rejects.toBe(refusal);
  });
});
