import type { Abstract, Type } from '@nestjs/common';
import { z } from 'zod';
import type { IdempotencyStore } from '../core/store';

/** The injection token of a store: its class, or a symbol. */
export type StoreToken = Type<IdempotencyStore> | Abstract<IdempotencyStore> | symbol;

/** A store in place of Redis and Postgres; `'memory'`: that of this process. */
export type OwnStore = IdempotencyStore | StoreToken | 'memory';

const VERBS = ['claim', 'complete', 'release', 'renew', 'find', 'forget'] as const;

export const STORE_FORM = `an IdempotencyStore (an object with ${VERBS.join(', ')})`;

export function isStore(value: unknown): value is IdempotencyStore {
  if (typeof value !== 'object' || value === null) return false;
  return VERBS.every((verb) => typeof (value as Record<string, unknown>)[verb] === 'function');
}

export const ownStoreSchema = z.custom<OwnStore>(
  (value) => value === 'memory' || typeof value === 'function' || typeof value === 'symbol' || isStore(value),
  { error: `${STORE_FORM}, the class or symbol that provides one, or 'memory'` },
);
