import type { Durability } from '../../../core/policy';

export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

export const milliseconds = (parameter: string): string => `${parameter}::float8 * interval '1 millisecond'`;

/** A commit that its standby may not have is told as a warning: one that role or handler have switched off is switched on. */
const WARNS = `(current_setting('client_min_messages') NOT IN ('error', 'fatal', 'panic')
    OR set_config('client_min_messages', 'warning', true) IS NOT NULL)`;

/**
 * True, and sets how this statement's own commit is flushed: local to its transaction, so that nothing is left in
 * the session. `durable` is what the server does by default, and corrects it only where it is switched off.
 * It has to stand in a WHERE clause that the change depends on: Postgres drops a CTE that nothing reads.
 */
export function commits(durability: Durability): string {
  const setting = `current_setting('synchronous_commit')`;
  const value = durability === 'fast' ? `'off'` : `CASE ${setting} WHEN 'off' THEN 'on' ELSE ${setting} END`;
  const flushes = `set_config('synchronous_commit', ${value}, true) IS NOT NULL`;
  return durability === 'fast' ? flushes : `${flushes} AND ${WARNS}`;
}
