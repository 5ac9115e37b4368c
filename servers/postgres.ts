import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { Home, type User } from './home';
import { onFreePort } from './ports';
import { postgresBinaries } from './postgres-binaries';
import { ServerProcess, type Launch } from './process';
import { EmbeddedServer, type RunningServer } from './running-server';

export interface PostgresStartOptions {
  /** @default a free one */
  readonly port?: number;
  /** Server settings beside ours, such as `{ fsync: 'off' }`. */
  readonly settings?: Readonly<Record<string, string>>;
  /**
   * The database that `url` names, created if it is not there.
   * @default 'postgres'
   */
  readonly database?: string;
}

export interface RunningPostgres extends RunningServer {
  /**
   * Makes a database, optionally as a copy of another (nobody may be connected to that), and returns its URL.
   * @default name is a new one
   */
  createDatabase(name?: string, template?: string): Promise<string>;
}

/** Superuser and, as initdb has it, a database of the same name. */
const POSTGRES = 'postgres';

const SETTINGS = {
  max_connections: '200',
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  // In the data folder, so that a killed server leaves nothing in /dev/shm.
  dynamic_shared_memory_type: 'mmap',
};

const INITDB_TIMEOUT = 60_000;
const CONNECT_TIMEOUT = 2_000;
const QUERY_TIMEOUT = 30_000;

/**
 * Starts a real Postgres with a new, empty data folder, in about 1.5 s. The user `postgres` needs no password.
 * @throws Error with the server's last output if it does not come up
 */
export async function startPostgres({
  port,
  settings = {},
  database = POSTGRES,
}: PostgresStartOptions = {}): Promise<RunningPostgres> {
  const user = unprivilegedUser();
  const binaries = postgresBinaries(user);
  const home = Home.create('postgres', 'QUIT', user);
  try {
    await initdb(binaries, home, user);
    const server = await onFreePort(port, async (chosen) => {
      const launch = launchOf(binaries, home, user, chosen, { ...SETTINGS, ...settings });
      return new EmbeddedPostgres(urlOf(chosen, database), chosen, launch, await ServerProcess.start(launch));
    });
    try {
      if (database !== POSTGRES) await server.createDatabase(database);
      return server;
    } catch (error) {
      await server.stop();
      throw error;
    }
  } catch (error) {
    await home.delete();
    throw error;
  }
}

class EmbeddedPostgres extends EmbeddedServer implements RunningPostgres {
  async createDatabase(name = `db_${randomUUID().replaceAll('-', '')}`, template?: string): Promise<string> {
    const source = template === undefined ? '' : ` TEMPLATE ${identifier(template)}`;
    await query(urlOf(this.port, POSTGRES), `CREATE DATABASE ${identifier(name)}${source}`);
    return urlOf(this.port, name);
  }
}

async function initdb(binaries: string, home: Home, user: User | undefined): Promise<void> {
  const running = promisify(execFile)(
    join(binaries, 'bin', 'initdb'),
    [
      ...['-D', dataFolder(home), '-U', POSTGRES, '--auth=trust', '--encoding=UTF8', '--locale=C'],
      ...['--no-sync', '--no-instructions'],
    ],
    { ...user, cwd: home.path, env: environment(), timeout: INITDB_TIMEOUT, killSignal: 'SIGKILL' },
  );
  home.watch(running.child);
  await running;
}

function launchOf(
  binaries: string,
  home: Home,
  user: User | undefined,
  port: number,
  settings: Readonly<Record<string, string>>,
): Launch {
  return {
    command: join(binaries, 'bin', 'postgres'),
    args: [
      ...['-D', dataFolder(home), '-p', String(port)],
      ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
    ],
    env: environment(),
    user,
    home,
    ready: async () => {
      const [row] = await query(urlOf(port, POSTGRES), 'SHOW data_directory');
      if (row?.data_directory !== dataFolder(home)) throw new Error(`Port ${port} is another server's`);
    },
    stopSignal: 'SIGINT',
  };
}

function dataFolder(home: Home): string {
  return join(home.path, 'data');
}

function environment(): NodeJS.ProcessEnv {
  return { ...process.env, LC_ALL: 'C', TZ: 'UTC' };
}

async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new Client({
    connectionString: url,
    ssl: false, // or PGSSLMODE decides
    connectionTimeoutMillis: CONNECT_TIMEOUT,
    query_timeout: QUERY_TIMEOUT,
  });
  client.on('error', () => undefined); // the rejected call says it
  try {
    await client.connect();
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    const ended = client.end().catch(() => undefined);
    await Promise.race([ended, delay(CONNECT_TIMEOUT, undefined, { ref: false })]);
  }
}

function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function urlOf(port: number, database: string): string {
  return `postgres://${POSTGRES}@127.0.0.1:${port}/${encodeURIComponent(database)}`;
}

/** Postgres refuses to run as root. */
function unprivilegedUser(): User | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const entry = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .find(([name]) => name === 'nobody');
  if (!entry) {
    throw new Error(
      'Postgres cannot run as root, and there is no user "nobody": run as another user, or set DATABASE_URL.',
    );
  }
  // As unsigned numbers: macOS writes -2.
  return { uid: Number(entry[2]) >>> 0, gid: Number(entry[3]) >>> 0 };
}
