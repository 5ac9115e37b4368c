import { Inject, Injectable, Logger } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { performance } from 'node:perf_hooks';
import { IdempotencySetupError } from '../core/errors';
import type { IdempotencyStore } from '../core/store';
import { MODULE_SETTINGS } from '../options/module-settings';
import { isStore, STORE_FORM, type StoreToken } from '../options/own-store';
import type { ModuleSettings } from '../options/resolve';
import { MemoryData, MemoryStore } from './memory/memory.store';

/** Of the store in memory, in milliseconds: as long as Redis keeps a response by default. */
const MEMORY_RETENTION = 86_400_000;

/** Gets the store that the application has in place of Redis and Postgres. */
@Injectable()
export class OwnStoreProvider {
  constructor(
    @Inject(MODULE_SETTINGS) private readonly settings: ModuleSettings,
    private readonly moduleRef: ModuleRef,
  ) {}

  /**
   * Undefined if the application has none.
   * @throws IdempotencySetupError if its token provides no store
   */
  open(): IdempotencyStore | undefined {
    const { store } = this.settings;
    if (store === 'memory') return inMemory();
    return typeof store === 'object' || store === undefined ? store : this.provided(store);
  }

  private provided(token: StoreToken): IdempotencyStore {
    const name = typeof token === 'symbol' ? String(token) : token.name;
    let provided: unknown;
    try {
      provided = this.moduleRef.get<unknown>(token, { strict: false });
    } catch (cause) {
      throw new IdempotencySetupError(
        `there is no provider of \`store: ${name}\`. Provide it in a module that the application imports.`,
        { cause },
      );
    }
    if (isStore(provided)) return provided;
    throw new IdempotencySetupError(`the provider of \`store: ${name}\` is not ${STORE_FORM}.`);
  }
}

function inMemory(): IdempotencyStore {
  new Logger('Idempotency').warn(
    "store: 'memory': records are in the memory of this process. A handler can run twice after a restart, and beside " +
      'another instance; use it for development and tests only.',
  );
  return new MemoryStore({
    data: new MemoryData(),
    now: () => performance.now(),
    retention: MEMORY_RETENTION,
  });
}
