import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Program } from './debian-packages';
import { Home } from './home';
import { onFreePort } from './ports';
import { query } from './postgres';
import { ServerProcess, type Launch } from './process';
import { findProgram } from './program';
import { EmbeddedServer, type RunningServer } from './running-server';
import { NOBODY, unprivilegedUser } from './unprivileged-user';

export interface PgBouncerStartOptions {
  /** @default a free one */
  readonly port?: number;
  /** Connections to Postgres, for each database. @default 20 */
  readonly poolSize?: number;
}

/** No pgbouncer can be had on this machine; the message says in one line what to install. */
export class PgBouncerUnavailableError extends Error {
  constructor(reason: string, cause?: unknown) {
    super(`${reason}: install pgbouncer (apt-get install pgbouncer), or set PGBOUNCER.`, { cause });
    this.name = 'PgBouncerUnavailableError';
  }
}

/**
 * Starts a real pgbouncer in transaction mode before a Postgres; each of its databases is served under its own name.
 * @param postgresPort where Postgres listens, on this machine
 * @throws PgBouncerUnavailableError if this machine has none and cannot get one; Error with its last output if it does
 * not come up
 */
export async function startPgBouncer(
  postgresPort: number,
  { port, poolSize = 20 }: PgBouncerStartOptions = {},
): Promise<RunningServer> {
  const program = await findProgram({
    variable: 'PGBOUNCER',
    command: 'pgbouncer',
    debian: { name: 'pgbouncer', packages: ['pgbouncer'], path: 'usr/sbin/pgbouncer' },
    unavailable: (reason, cause) => new PgBouncerUnavailableError(reason, cause),
  });
  const user = unprivilegedUser('pgbouncer', 'set DATABASE_URL');
  const home = Home.create('pgbouncer', 'TERM', user);
  try {
    return await onFreePort(port, async (chosen) => {
      const config = join(home.path, 'pgbouncer.ini');
      writeFileSync(config, configuration(chosen, postgresPort, poolSize), { mode: 0o644 });
      const launch = launchOf(program, home, chosen, config, user !== undefined);
      return new EmbeddedServer(urlOf(chosen, 'postgres'), chosen, launch, await ServerProcess.start(launch));
    });
  } catch (error) {
    await home.delete();
    throw error;
  }
}

/** `auth_type = any` takes no password and needs the user who logs in at Postgres. */
function configuration(port: number, postgresPort: number, poolSize: number): string {
  return `[databases]
* = host=127.0.0.1 port=${postgresPort} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = ${poolSize}
max_client_conn = 500
server_login_retry = 1
`;
}

function launchOf(
  { command, env }: Program,
  home: Home,
  port: number,
  config: string,
  asRoot: boolean,
): Launch {
  return {
    command,
    // It refuses to run as root. The user nobody could not read it in root's cache, so it changes the user itself.
    args: [...(asRoot ? ['-u', NOBODY] : []), config],
    env,
    home,
    ready: async () => {
      const settings = await query(urlOf(port, 'pgbouncer'), 'SHOW CONFIG');
      if (!settings.some(({ value }) => value === config)) throw new Error(`Port ${port} is another's`);
    },
    stopSignal: 'SIGTERM',
  };
}

function urlOf(port: number, database: string): string {
  return `postgres://postgres@127.0.0.1:${port}/${database}`;
}
