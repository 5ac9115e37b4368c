import { appendFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { AuditLog } from '../admin/audit-log';
import type { IdempotencyAdmin } from '../admin/idempotency-admin';
import { RecordAdmin } from '../admin/record-admin';
import type { AuditEvent, Change } from '../core/audit';
import { placeOf, type CommonOptions } from './settings';
import { openStores, type OpenStores } from './stores';

/** What the verbs that change records take. */
export interface ChangeOptions {
  readonly yes?: boolean;
  readonly by?: string;
  readonly reason: string;
  readonly audit?: string;
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
      audit === undefined
        ? undefined
        : (event: AuditEvent) => appendFile(audit, `${JSON.stringify(event)}\n`);
    const admin = new RecordAdmin({ store, digest, audit: new AuditLog(hook) });
    return await work({ ...stores, admin });
  } finally {
    await stores.close();
  }
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
