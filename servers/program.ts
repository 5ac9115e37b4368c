import { execFile } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, isAbsolute, join } from 'node:path';
import { promisify } from 'node:util';
import { cached, fetched, type DebianProgram, type Program } from './debian-packages';

/** Where a program may come from. */
export interface ProgramSources {
  /** The environment variable that names the program, if it is set. */
  readonly variable: string;
  /** What is looked for on PATH. */
  readonly command: string;
  readonly debian: DebianProgram;
  /** The error for a machine that has none and cannot get one. */
  readonly unavailable: (reason: string, cause?: unknown) => Error;
}

/**
 * The program that the variable names, or the one on PATH; else, on Debian and its kin, its packages are fetched (not
 * installed) into the user's cache, in about 2 s the first time.
 * @throws what `unavailable` makes
 */
export async function findProgram(sources: ProgramSources): Promise<Program> {
  const { variable, debian, unavailable } = sources;
  const named = process.env[variable];
  const command = onPath(named ?? sources.command);
  if (command) return { command, env: process.env };
  if (named) throw unavailable(`${variable} names no program (${named})`);
  try {
    const cache = cacheFolder();
    return (await usable(await cached(debian, cache))) ?? (await checked(await fetched(debian, cache)));
  } catch (cause) {
    throw unavailable(`No ${sources.command} found, and none could be fetched`, cause);
  }
}

function onPath(name: string): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter).filter(Boolean);
  const candidates = name.includes('/') ? [name] : folders.map((folder) => join(folder, name));
  return candidates.find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

function cacheFolder(): string {
  const { XDG_CACHE_HOME = '' } = process.env;
  const base = isAbsolute(XDG_CACHE_HOME) ? XDG_CACHE_HOME : join(homedir(), '.cache');
  return join(base, 'nestjs-idempotency');
}

/** What was fetched before an upgrade of the system may not run on it any more. */
async function usable(program: Program | undefined): Promise<Program | undefined> {
  return program && checked(program).catch(() => undefined);
}

async function checked(program: Program): Promise<Program> {
  await promisify(execFile)(program.command, ['--version'], { env: program.env, timeout: 10_000 });
  return program;
}
