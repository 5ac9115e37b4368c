import { randomUUID } from 'node:crypto';
import { statfsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { Home } from './home';
import { onFreePort } from './ports';
import { postgresBinaries } from './postgres-binaries';
import { createDataFolder, dataFolder, environment, POSTGRES, type PostgresProgram } from './postgres-data';
import { ServerProcess, type Launch } from './process';
import { EmbeddedServer, type RunningServer } from './running-server';
import { unprivilegedUser } from './unprivileged-user';

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
   * Makes a database, optionally as a copy of another (no connection to that may be open), and returns its URL.
   * @default name is a new one
   */
  createDatabase(name?: string, template?: string): Promise<string>;
}

const SETTINGS = {
  max_connections: '200',
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  // In the data folder, so that a killed server leaves nothing in /dev/shm.
  dynamic_shared_memory_type: 'mmap',
};

const CONNECT_TIMEOUT = 2_000;
const QUERY_TIMEOUT = 30_000;

/**
 * Starts a real Postgres with a new, empty data folder, in about 1.5 s. The user `postgres` needs no password.
 * @throws Error with the server's last output if it does not come up
 */
export function startPostgres(options: PostgresStartOptions = {}): Promise<RunningPostgres> {
  return startPostgresOn('postgres', options, createDataFolder);
}

/**
 * Starts a Postgres on the data folder that `prepare` makes.
 * @throws what `prepare` throws; Error with the server's last output if it does not come up
 */
export async function startPostgresOn(
  name: string,
  { port, settings = {}, database = POSTGRES }: PostgresStartOptions,
  prepare: (home: Home, program: PostgresProgram) => Promise<void>,
): Promise<RunningPostgres> {
  const user = unprivilegedUser('Postgres', 'set DATABASE_URL');
  const program = { binaries: postgresBinaries(user), user };
  const home = Home.create(name, 'QUIT', user);
  try {
    await prepare(home, program);
    const server = await onFreePort(port, async (chosen) => {
      const launch = launchOf(program, home, chosen, { ...SETTINGS, ...settings });
      return new EmbeddedPostgres(chosen, database, launch, await ServerProcess.start(launch));
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
  /** In memory, to copy files takes a third of the CPU that pages in WAL take (44 ms and 140 ms); on a disk, three times as long. */
  private readonly strategy: string;

  constructor(port: number, database: string, launch: Launch, process: ServerProcess) {
    super(urlOf(port, database), port, launch, process);
    this.strategy = isInMemory(launch.home.path) ? ' STRATEGY FILE_COPY' : '';
  }

  async createDatabase(name = `db_${randomUUID().replaceAll('-', '')}`, template?: string): Promise<string> {
    const source = template === undefined ? '' : ` TEMPLATE ${identifier(template)}`;
    await query(urlOf(this.port, POSTGRES), `CREATE DATABASE ${identifier(name)}${source}${this.strategy}`);
    return urlOf(this.port, name);
  }
}

function launchOf(
  { binaries, user }: PostgresProgram,
  home: Home,
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

/** Runs one statement on a connection of its own. */
export function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  return connected(url, async (client) => (await client.query<Record<string, unknown>>(sql)).rows);
}

/** Runs statements on one connection. */
export async function connected<T>(url: string, work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({
    connectionString: url,
    ssl: false, // or PGSSLMODE decides
    connectionTimeoutMillis: CONNECT_TIMEOUT,
    query_timeout: QUERY_TIMEOUT,
  });
  client.on('error', () => undefined); // the rejected call says it
  try {
    await client.connect();
    return await work(client);
  } finally {
    const ended = client.end().catch(() => undefined);
    await Promise.race([ended, delay(CONNECT_TIMEOUT, undefined, { ref: false })]);
  }
}

const TMPFS = 0x01021994;

function isInMemory(path: string): boolean {
  return statfsSync(path).type === TMPFS;
}

function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function urlOf(port: number, database: string): string {
  return `postgres://${POSTGRES}@127.0.0.1:${port}/${encodeURIComponent(database)}`;
}
