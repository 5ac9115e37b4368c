import type { Claim } from '../../core/record';
import type { ForgottenRecords } from '../../core/store';
import type { PostgresConnection } from './connection/postgres.connection';
import { areForgotten, forget } from './schema/statements';
import { byteaOf } from './schema/values';

/**
 * Deletes the records of these claims, except those whose lease is alive, in one statement.
 * @param keptOut for how long (ms) an outcome that arrives late is refused
 */
export async function forgetAll(
  connection: PostgresConnection,
  table: string,
  claims: readonly Claim[],
  keptOut: number,
): Promise<ForgottenRecords> {
  let tries = 0;
  const run = connection.operation('forget', { onSend: () => tries++ });
  const rows = await run<{ token: string; existed: boolean }>(forget(table), [...namedBy(claims), keptOut]);
  const existing = rows.filter(({ existed }) => existed);
  const tokens = new Set(existing.map(({ token }) => token));
  if (tries === 1 || rows.length === claims.length) return { deleted: rows.length, tokens };
  // An earlier try may have landed, and its reply was lost: the marks that it left say of which records.
  const answered = new Set(rows.map(({ token }) => token));
  const unanswered = claims.filter(({ token }) => !answered.has(token.toLowerCase()));
  const marked = await run<{ token: string }>(areForgotten(table), namedBy(unanswered));
  for (const { token } of marked) tokens.add(token);
  return { deleted: rows.length + marked.length, tokens };
}

/** Whether an operator has deleted the record that this claim had made. */
export async function isForgotten(
  connection: PostgresConnection,
  table: string,
  claim: Claim,
): Promise<boolean> {
  return (await connection.operation('find')(areForgotten(table), namedBy([claim]))).length > 0;
}

/** Ids, tokens, fences. */
function namedBy(claims: readonly Claim[]): unknown[] {
  return [
    claims.map(({ id }) => byteaOf(id.hash)),
    claims.map(({ token }) => token),
    claims.map(({ fence }) => fence),
  ];
}
