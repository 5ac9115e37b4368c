import type { Claim } from '../../core/record';
import type { ForgottenRecords } from '../../core/store';
import type { Run } from './connection/postgres.connection';
import { forget } from './schema/statements';
import { byteaOf } from './schema/values';

/**
 * Deletes the records of these claims, except those whose lease is alive, in one statement.
 * @param keptOut for how long (ms) an outcome that arrives late is refused
 */
export async function forgetAll(
  run: Run,
  table: string,
  claims: readonly Claim[],
  keptOut: number,
): Promise<ForgottenRecords> {
  const rows = await run<{ token: string; existed: boolean }>(forget(table), [
    claims.map(({ id }) => byteaOf(id.hash)),
    claims.map(({ token }) => token),
    claims.map(({ fence }) => fence),
    keptOut,
  ]);
  const existing = rows.filter(({ existed }) => existed);
  return { deleted: rows.length, tokens: new Set(existing.map(({ token }) => token)) };
}
