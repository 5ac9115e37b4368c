import { execFile } from 'node:child_process';

export class CommandError extends Error {
  constructor(
    command: string,
    readonly output: string,
  ) {
    super(`${command}\n${output.trimEnd()}`);
  }
}

/** Ends every command and application of a run, as Ctrl-C does. */
export const interruption = new AbortController();

export interface CommandOptions {
  readonly cwd: string;
  /** Milliseconds after which it is killed. @default 180000 */
  readonly timeout?: number;
}

/**
 * What a command prints.
 * @throws CommandError with all its output, if it fails
 */
export function run(
  command: string,
  args: readonly string[],
  { cwd, timeout = 180_000 }: CommandOptions,
): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(
      command,
      [...args],
      { cwd, timeout, killSignal: 'SIGKILL', maxBuffer: 2 ** 26, signal: interruption.signal },
      (error, stdout, stderr) => {
        if (!error) resolve(stdout);
        else {
          const how = error.killed ? `killed after ${timeout} ms\n` : '';
          reject(new CommandError([command, ...args].join(' '), `${how}${stdout}${stderr}` || error.message));
        }
      },
    );
  });
}
