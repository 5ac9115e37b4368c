import { execFile } from 'node:child_process';
import { appendFileSync, chownSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Home } from './home';
import { connected, query, startPostgresOn, type RunningPostgres } from './postgres';
import { dataFolder, type PostgresProgram } from './postgres-data';
import { retrying } from './retry';

/** A streaming replica that can be read, and made the primary. */
export interface RunningStandby extends RunningPostgres {
  /** Ends the recovery: from then on this server takes writes. */
  promote(): Promise<void>;
}

const COPY_TIMEOUT = 60_000;
const UNTIL_SYNCHRONOUS = { on: /not synchronous yet/, attempts: 300, pause: 100 };

/**
 * Copies a running Postgres, has the copy follow it, and the primary wait for the copy with each commit
 * (`synchronous_standby_names`): a commit that was confirmed is then on both.
 */
export async function startSynchronousStandby(primary: RunningPostgres): Promise<RunningStandby> {
  const name = 'standby';
  const standby = await startPostgresOn(name, {}, (home, program) => backup(primary, name, home, program));
  try {
    // Not before there is one: every commit would wait for it.
    await query(primary.url, `ALTER SYSTEM SET synchronous_standby_names = '${name}'`);
    await query(primary.url, 'SELECT pg_reload_conf()');
    await retrying(UNTIL_SYNCHRONOUS, async () => {
      const [row] = await query(primary.url, 'SELECT sync_state FROM pg_stat_replication');
      if (row?.sync_state !== 'sync') throw new Error('The standby is not synchronous yet');
    });
    const promote = async (): Promise<void> => {
      const [row] = await query(standby.url, 'SELECT pg_promote(true, 30) AS promoted');
      if (row?.promoted !== true) throw new Error('The standby is not promoted within 30 s');
    };
    return Object.assign(standby, { promote });
  } catch (error) {
    await standby.stop();
    throw error;
  }
}

/** What pg_basebackup does, which the npm package does not have. */
async function backup(
  primary: RunningPostgres,
  name: string,
  home: Home,
  { user }: PostgresProgram,
): Promise<void> {
  const target = dataFolder(home);
  const write = (file: string, text: string): void => {
    writeFileSync(join(target, file), text, { mode: 0o600 });
    if (user) chownSync(join(target, file), user.uid, user.gid);
  };
  await connected(primary.url, async (client) => {
    const { rows } = await client.query<{ data_directory: string }>('SHOW data_directory');
    await client.query('SELECT pg_backup_start($1, true)', [name]);
    await promisify(execFile)('cp', ['-a', rows[0]?.data_directory ?? '', target], {
      ...user,
      cwd: home.path,
      timeout: COPY_TIMEOUT,
    });
    const stopped = await client.query<{ labelfile: string }>('SELECT labelfile FROM pg_backup_stop(false)');
    write('backup_label', stopped.rows[0]?.labelfile ?? '');
  });
  rmSync(join(target, 'postmaster.pid')); // the primary's
  write('standby.signal', '');
  const conninfo = `host=127.0.0.1 port=${primary.port} user=postgres application_name=${name}`;
  appendFileSync(join(target, 'postgresql.auto.conf'), `primary_conninfo = '${conninfo}'\n`);
}
