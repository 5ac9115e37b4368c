import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Home, User } from './home';

/** Binaries, and whom they run as. */
export interface PostgresProgram {
  readonly binaries: string;
  readonly user: User | undefined;
}

/** Superuser and, as initdb has it, a database of the same name. */
export const POSTGRES = 'postgres';

const TIMEOUT = 60_000;

/** The home of the server of this process that has the system identifier of the template. */
let sharing: string | undefined;

export function dataFolder(home: Home): string {
  return join(home.path, 'data');
}

export function environment(): NodeJS.ProcessEnv {
  return { ...process.env, LC_ALL: 'C', TZ: 'UTC' };
}

/**
 * Makes a new data folder with initdb, which takes about 1 s of CPU. Where POSTGRES_TEMPLATES names a folder, the first
 * one is kept there, and later ones are copied from it in 0.2 s.
 *
 * A copy has the system identifier of its template. Servers that run side by side in one process have different ones,
 * as only one of them is a copy.
 */
export async function createDataFolder(home: Home, program: PostgresProgram): Promise<void> {
  const { POSTGRES_TEMPLATES: templates } = process.env;
  if (!templates || (sharing !== undefined && existsSync(sharing))) return initdb(home, program);
  sharing = home.path;
  const template = join(templates, 'data');
  if (existsSync(template)) return copy(template, dataFolder(home));
  await initdb(home, program);
  await keep(dataFolder(home), template);
}

async function initdb(home: Home, { binaries, user }: PostgresProgram): Promise<void> {
  const running = promisify(execFile)(
    join(binaries, 'bin', 'initdb'),
    [
      ...['-D', dataFolder(home), '-U', POSTGRES, '--auth=trust', '--encoding=UTF8', '--locale=C'],
      ...['--no-sync', '--no-instructions'],
    ],
    { ...user, cwd: home.path, env: environment(), timeout: TIMEOUT, killSignal: 'SIGKILL' },
  );
  home.watch(running.child);
  await running;
}

/** Several processes may do so at once: the first one's stays. */
async function keep(data: string, template: string): Promise<void> {
  const making = await mkdtemp(`${template}-`);
  await copy(data, join(making, 'data'));
  await rename(join(making, 'data'), template).catch(() => undefined);
  await rm(making, { recursive: true, force: true });
}

/** With owner and rights. */
async function copy(from: string, to: string): Promise<void> {
  await promisify(execFile)('cp', ['-a', from, to], { timeout: TIMEOUT });
}
