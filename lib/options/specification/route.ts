import { z } from 'zod';
import type { HeaderFilter, IdempotencyOptions } from '../idempotency.options';
import { boolean, callback, credentialHeader, headerName, httpUrl } from '../schemas';
import { legacyOptions, legacySchema } from './legacy';
import { optionsAt } from './option';
import { policyOptions } from './policy';

const option = optionsAt('module', 'class', 'method');

/** What `@Idempotent()` takes. */
export const routeOptions = {
  header: option({
    schema: z.union([headerName, z.array(headerName).min(1, { error: 'a header name or a list of them' })], {
      error: 'a header name or a list of them',
    }),
    default: ['Idempotency-Key', 'X-Idempotency-Key'],
    text: 'request headers that may carry the key',
  }),
  bareKeys: option({
    schema: boolean,
    default: true,
    text: '`false`: only a structured-field string (`"abc"`) is a key',
  }),
  key: option({
    schema: callback<NonNullable<IdempotencyOptions['key']>>(),
    text: "`(context) => string | undefined`, or a promise of it: takes the key from elsewhere, such as a webhook's event id: `fromBody('id')`, `fromHeader('X-GitHub-Delivery')`",
  }),
  required: option({ schema: boolean, default: false, text: '400 without a key' }),
  documentation: option({
    schema: httpUrl,
    text: "URL of your API's documentation, put into a `Link` on every problem",
  }),
  scope: option({
    schema: callback<NonNullable<IdempotencyOptions['scope']>>(),
    otherwise: 'the user, else the credentials',
    text: '`(context) => string | number | bigint`, a list of these, `undefined`, or a promise of it: to whom the key belongs; `byUser((request) => …)` never answers `undefined`',
  }),
  credentialHeaders: option({
    schema: z.array(credentialHeader, { error: 'a list of header names, in which * stands for any text' }),
    otherwise: 'none',
    text: 'more headers that identify callers if no guard names a user; `*` stands for any text',
  }),
  fingerprint: option({
    schema: callback<NonNullable<IdempotencyOptions['fingerprint']>>(),
    otherwise: 'method, path, query, body',
    text: '`(context) => string`, or a promise of it: what must be equal in a retry; `rawBody()`: the query and the bytes of the body',
  }),
  legacy: option({
    schema: legacySchema,
    otherwise: 'none',
    text: 'a function, or `{ lookup, timeout, onError }`: asked once for a key that is unknown here, for a change from another system; see [Coming from another system](../guide/migrating.md)',
    options: legacyOptions,
  }),
  record: option({
    schema: callback<NonNullable<IdempotencyOptions['record']>>(),
    otherwise: '[below 500, with exceptions](../guide/recorded-and-replayed.md)',
    text: '`(status) => boolean`: which responses are recorded',
  }),
  replayHeaders: option({
    schema: z.union([z.array(headerName), callback<HeaderFilter>()], {
      error: 'a list of header names or a function',
    }),
    otherwise: 'all but those never stored',
    text: 'which headers a replay repeats: names, or `(name, value) => boolean`',
  }),
  ...policyOptions,
};
