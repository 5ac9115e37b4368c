import { appendFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { AuditLog } from '../admin/audit-log';
import type { IdempotencyAdmin } from '../admin/idempotency-admin';
import { RecordAdmin } from '../admin/record-admin';
import type { AuditEvent, Change } from '../core/audit';
import { visible, visibleJson } from '../core/visible';
import { IdempotencySetupError, isStoreUnavailableError } from '../core/errors';
import { UsageError } from './exit';
import { placeOf, type CommonOptions } from './settings';
import { openStores, type OpenStores } from './stores';

/** What the verbs that change records take. */
export interface ChangeOptions {
  readonly yes?: boolean;
  readonly by?: string;
  readonly reason: string;
  readonly audit?: string;
  readonly unmarkedRedis?: boolean;
}

export interface Session extends OpenStores {
  readonly admin: IdempotencyAdmin;
}

/** Opens the stores for one command, and closes them after it. */
export async function withSession<T>(
  options: CommonOptions & Partial<ChangeOptions>,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const stores = await openStores(placeOf(options, process.env));
  try {
    const { store, digest } = stores;
    const { audit } = options;
    const hook =
      audit === undefined ? undefined : (event: AuditEvent) => appendFile(audit, `${visibleJson(event)}\n`);
    const admin = new RecordAdmin({ store, digest, audit: new AuditLog(hook) });
    return await work({ ...stores, admin });
  } finally {
    await stores.close();
  }
}

/**
 * A session for a verb that changes records.
 * @throws IdempotencySetupError if what it changes here might not be what the application reads
 */
export function withChanges<T>(
  options: CommonOptions & ChangeOptions,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  return withSession(options, async (session) => {
    await assertWritable(options.audit);
    if (!options.unmarkedRedis) await assertOwnRedis(session);
    return work(session);
  });
}

/** Before the change, as it could not be undone. */
async function assertWritable(audit: string | undefined): Promise<void> {
  if (audit === undefined) return;
  await appendFile(audit, '').catch((error: unknown) => {
    throw new UsageError(
      `The file of --audit cannot be written, so nothing was changed: ${visible(String(error))}`,
    );
  });
}

/** Redis that cannot be asked is none that could be taken for the right one: the verb says what it has left there. */
async function assertOwnRedis(session: Session): Promise<void> {
  const isMarked = await session.isRedisMarked().catch((error: unknown) => {
    if (!isStoreUnavailableError(error)) throw error;
    return true;
  });
  if (isMarked) return;
  throw new IdempotencySetupError(
    'no application that uses this table has left its mark in this Redis, so what is changed here might still be ' +
      "replayed from another one. Nothing was changed. Give the application's REDIS_URL and --key-prefix; pass " +
      '--unmarked-redis if it is this one, and was emptied.',
  );
}

/**
 * Before a response is written: without the application's keys it would be stored in the clear.
 * @throws IdempotencySetupError
 */
export async function assertOwnKeys(session: Session): Promise<void> {
  const missing = await session.missingKeyIds();
  if (missing.length === 0) return;
  throw new IdempotencySetupError(
    `the responses in this table are encrypted with keys that are not here: ${missing.join(', ')}. Nothing was changed. ` +
      "Set IDEMPOTENCY_ENCRYPTION_KEYS to the application's `encryption.keys`, in the same order.",
  );
}

export function changeOf({ by, reason }: ChangeOptions): Change {
  return { by: by ?? operator(), reason };
}

/** In a container, the user may have no name. */
function operator(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? 'unknown'}`;
  }
}
