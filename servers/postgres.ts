import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chownSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { postgresBinaries } from './postgres-binaries';
import {
  deleteFolder,
  onFreePort,
  ServerProcess,
  temporaryFolder,
  type RunningServer,
  type User,
} from './process';

export interface PostgresStartOptions {
  /** @default a free one */
  readonly port?: number;
  /** Server settings beside ours, such as `{ fsync: 'off' }`. */
  readonly settings?: Readonly<Record<string, string>>;
}

export interface RunningPostgres extends RunningServer {
  /** Makes a database, optionally as a copy of another, and returns its URL. */
  createDatabase(name?: string, template?: string): Promise<string>;
}

const SUPERUSER = 'postgres';

/**
 * Starts a real Postgres with a new, empty data folder, in about 3 s.
 * @throws Error with the server's last output if it does not come up
 */
export async function startPostgres({
  port,
  settings = {},
}: PostgresStartOptions = {}): Promise<RunningPostgres> {
  const user = unprivilegedUser();
  const binaries = postgresBinaries(user);
  const folder = temporaryFolder('postgres');
  try {
    if (user) chownSync(folder, user.uid, user.gid);
    const data = join(folder, 'data');
    await promisify(execFile)(
      join(binaries, 'bin', 'initdb'),
      [
        '-D',
        data,
        '-U',
        SUPERUSER,
        '-A',
        'trust',
        '-E',
        'UTF8',
        '--locale=C',
        '--no-sync',
        '--no-instructions',
      ],
      { ...user, cwd: folder, env: { ...process.env, LC_ALL: 'C', TZ: 'UTC' } },
    );
    return await onFreePort(port, (chosen) =>
      EmbeddedPostgres.start(binaries, folder, chosen, settings, user),
    );
  } catch (error) {
    deleteFolder(folder);
    throw error;
  }
}

class EmbeddedPostgres implements RunningPostgres {
  private constructor(
    private server: ServerProcess,
    private readonly launch: () => Promise<ServerProcess>,
    private readonly folder: string,
    readonly port: number,
  ) {}

  static async start(
    binaries: string,
    folder: string,
    port: number,
    settings: Readonly<Record<string, string>>,
    user: User | undefined,
  ): Promise<EmbeddedPostgres> {
    const all = {
      max_connections: '200',
      listen_addresses: '127.0.0.1',
      unix_socket_directories: '',
      ...settings,
    };
    const launch = (): Promise<ServerProcess> =>
      ServerProcess.start({
        command: join(binaries, 'bin', 'postgres'),
        args: [
          ...['-D', join(folder, 'data'), '-p', String(port)],
          ...Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
        ],
        env: { ...process.env, LC_ALL: 'C', TZ: 'UTC' },
        user,
        log: join(folder, 'log'),
        ready: () => query(urlOf(port, SUPERUSER), 'SELECT 1'),
        stopSignal: 'SIGINT',
      });
    return new EmbeddedPostgres(await launch(), launch, folder, port);
  }

  get url(): string {
    return urlOf(this.port, 'postgres');
  }

  get pid(): number {
    return this.server.pid;
  }

  async createDatabase(name = `db_${randomUUID().replaceAll('-', '')}`, template?: string): Promise<string> {
    await query(this.url, `CREATE DATABASE "${name}"${template ? ` TEMPLATE "${template}"` : ''}`);
    return urlOf(this.port, name);
  }

  kill(signal: NodeJS.Signals): void {
    this.server.kill(signal);
  }

  async restart(): Promise<void> {
    await this.server.destroy();
    this.server = await this.launch();
  }

  async stop(): Promise<void> {
    await this.server.stop();
    deleteFolder(this.folder);
  }
}

async function query(url: string, sql: string): Promise<void> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
  client.on('error', () => undefined); // the rejected call says it
  try {
    await client.connect();
    await client.query(sql);
  } finally {
    await client.end().catch(() => undefined);
  }
}

function urlOf(port: number, database: string): string {
  return `postgres://${SUPERUSER}@127.0.0.1:${port}/${database}`;
}

/** Postgres refuses to run as root. */
function unprivilegedUser(): User | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const entry = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .find(([name]) => name === 'nobody');
  if (!entry)
    throw new Error(
      'Postgres cannot run as root, and there is no user "nobody": run as another user, or set DATABASE_URL.',
    );
  return { uid: Number(entry[2]), gid: Number(entry[3]) };
}
