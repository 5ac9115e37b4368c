import { z } from 'zod';
import type { LegacyLookup } from '../legacy.options';
import { callback, duration, LONGEST_TIMER, oneOf } from '../schemas';
import { defaultsOf, optionsAt } from './option';

const option = optionsAt('module', 'class', 'method');

/** What is within `legacy`. */
export const legacyOptions = {
  lookup: option({
    schema: callback<LegacyLookup>(),
    text: '`(key, context) => { status, headers, body }`, `undefined` for an unknown key, or a promise of it; of `execute()`, `(key) => { value }`',
  }),
  timeout: option({
    schema: duration(10, LONGEST_TIMER),
    default: '2s',
    text: 'how long a lookup may take before it counts as failed',
  }),
  onError: option({
    schema: oneOf('reject', 'execute'),
    default: 'reject',
    text: "if a lookup fails, nothing runs and the answer is 503; `'execute'`: the handler runs",
  }),
};

const settingsOf = defaultsOf(legacyOptions);

/** Without a lookup there is nothing to ask. */
const object = z.strictObject({
  lookup: legacyOptions.lookup.schema,
  timeout: legacyOptions.timeout.schema.optional(),
  onError: legacyOptions.onError.schema.optional(),
});

export const legacySchema = z.union(
  [
    z.literal(false),
    legacyOptions.lookup.schema.transform((lookup) => ({ ...settingsOf({}), lookup })),
    object.transform((given) => ({ ...settingsOf(given), lookup: given.lookup })),
  ],
  { error: 'a function, { lookup, timeout, onError } or false' },
);
