import type { RecordDirectory } from '../core/record-directory';
import { keyIdOf } from '../outcome/outcome-cipher';
import type { ModuleSettings } from '../options/resolve';
import { byteaOf } from '../store/postgres/schema/values';

/** Of the application's latest responses: those that retries still ask for. */
const SAMPLE = 1_000;

export interface EncryptedRow {
  /** Of the encryption key. */
  readonly id: string;
}

/** Parameters: the ids of records. */
const keysOf = (table: string): string => `
  SELECT DISTINCT headers ->> 1 AS id FROM ${table}
  WHERE id = ANY ($1::bytea[]) AND expires_at > now() AND headers ->> 0 = 'A256GCM'`;

/**
 * The ids of keys that the application's latest responses are encrypted with, and that are not here. Records of other
 * namespaces may have other keys, so what lies among them is looked for as far as it takes.
 * @param run one statement
 */
export async function missingKeyIds(
  run: (text: string, values: unknown[]) => Promise<EncryptedRow[]>,
  table: string,
  directory: Pick<RecordDirectory, 'list'>,
  { encryption }: Pick<ModuleSettings, 'encryption'>,
): Promise<string[]> {
  const rows = await run(keysOf(table), [(await latestResponses(directory)).map(byteaOf)]);
  const known = new Set((encryption?.keys ?? []).map(keyIdOf));
  return rows.map(({ id }) => id).filter((id) => !known.has(id));
}

/** Hashes of the application's own. */
async function latestResponses(directory: Pick<RecordDirectory, 'list'>): Promise<string[]> {
  const hashes: string[] = [];
  let cursor: string | undefined;
  do {
    const page = await directory.list({ state: 'completed' }, SAMPLE - hashes.length, cursor);
    hashes.push(...page.records.map(({ hash }) => hash));
    ({ cursor } = page);
  } while (cursor !== undefined && hashes.length < SAMPLE);
  return hashes;
}
