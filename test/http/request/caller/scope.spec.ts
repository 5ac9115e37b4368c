import { ApplicationConfig, HttpAdapterHost } from '@nestjs/core';
import fc from 'fast-check';
import { plainDigest } from '../../../../lib/core/digest';
import { httpScope } from '../../../../lib/http/request/caller/http-scope';
import { RouteSelectors } from '../../../../lib/http/request/caller/route-selectors';
import { ScopeResolver } from '../../../../lib/http/request/caller/scope';
import type { IdempotencyOptions } from '../../../../lib/options/idempotency.options';
import { runs, text } from '../../../support/arbitraries';
import { contextOf, route, settled } from '../../../support/request-context';

describe('a principal', () => {
  const host = new HttpAdapterHost();
  const scopes = new ScopeResolver(new RouteSelectors(host, new ApplicationConfig()), plainDigest, host);
  const scopeOf = (request: object, options?: IdempotencyOptions): Promise<unknown> =>
    settled(
      scopes.resolve(
        contextOf({ method: 'POST', url: '/a', headers: {}, rawHeaders: [], ...request }),
        route(options),
      ),
    );

  /** What tells callers apart: a text that is not empty, or a number that is one. */
  const principals = fc.oneof(
    fc.anything(),
    text,
    fc.constantFrom<unknown>(
      NaN,
      Infinity,
      -Infinity,
      -0,
      0,
      10n ** 400n,
      Symbol('id'),
      () => 1,
      [],
      [1],
      {},
    ),
    fc.constant('x'.repeat(1_000_000)),
  );
  const usable = (id: unknown): id is string | number | bigint =>
    (typeof id === 'string' && id !== '') ||
    typeof id === 'bigint' ||
    (typeof id === 'number' && Math.abs(id) < 2 ** 53);

  it('as `request.user.id` is a name of its own, or refused', async () => {
    await fc.assert(
      fc.asyncProperty(principals, async (id) => {
        fc.pre(id !== undefined && id !== null);
        const scope = await scopeOf({ user: { id } });
        if (usable(id)) expect(scope).toEqual({ value: httpScope('POST', '/a', { user: { id } }) });
        else
          expect(scope).toEqual({
            message: expect.stringMatching(/request\.user.*`scope` option/) as string,
          });
      }),
      runs(300),
    );
  });

  it('as the answer of `scope` is a name of its own, or refused', async () => {
    await fc.assert(
      fc.asyncProperty(principals, async (answer) => {
        fc.pre(answer !== undefined);
        const scope = await scopeOf({}, { scope: () => answer as string });
        const list = Array.isArray(answer) && answer.length > 0 && Array.from<unknown>(answer).every(usable);
        if (usable(answer) || list)
          expect(scope).toEqual({ value: httpScope('POST', '/a', { scope: answer as string }) });
        else
          expect(scope).toEqual({ message: expect.stringMatching(/`scope` option must return/) as string });
      }),
      runs(300),
    );
  });
});
