import type { Digest } from '../core/digest';
import { keyIdOf } from '../outcome/outcome-cipher';
import type { ModuleSettings } from '../options/resolve';

/** Of the latest responses: those that retries still ask for. */
const SAMPLE = 1_000;

/** A response, and what its key is called. */
export interface EncryptedRow {
  readonly hash: string;
  readonly scope: string;
  readonly key: string;
  /** Of the encryption key. */
  readonly id: string;
}

/** The latest responses that are encrypted, with the ids of their keys. */
const latestEncrypted = (table: string): string => `
  SELECT hash, scope, key, headers ->> 1 AS id FROM (
    SELECT encode(id, 'hex') AS hash, scope, key, headers FROM ${table}
    WHERE expires_at > now() AND headers IS NOT NULL ORDER BY expires_at DESC LIMIT ${SAMPLE}
  ) AS latest WHERE headers ->> 0 = 'A256GCM'`;

/**
 * The ids of keys that the application's latest responses are encrypted with, and that are not here. Records of other
 * namespaces may have other keys.
 * @param run one statement
 */
export async function missingKeyIds(
  run: (text: string) => Promise<EncryptedRow[]>,
  table: string,
  digest: Digest,
  { encryption }: Pick<ModuleSettings, 'encryption'>,
): Promise<string[]> {
  const rows = await run(latestEncrypted(table));
  const own = rows.filter(({ hash, scope, key }) => digest.idOf(scope, key) === hash);
  const known = new Set((encryption?.keys ?? []).map(keyIdOf));
  return [...new Set(own.map(({ id }) => id))].filter((id) => !known.has(id));
}
