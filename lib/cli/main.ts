#!/usr/bin/env node
import { Logger, type LoggerService } from '@nestjs/common';
import { CommanderError } from 'commander';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { EXIT, exitCodeOf } from './exit';
import { withoutPassword } from './output';
import { program } from './program';
import { endBySignals } from './signals';
import { terminal } from './terminal';

/** Standard output belongs to the answer. */
const toStderr: LoggerService = {
  log: noteLine,
  warn: noteLine,
  error: noteLine,
};

/** With the cause, where there is one. Nest adds where a line comes from, which is always the same here. */
function noteLine(message: unknown, ...rest: readonly unknown[]): void {
  const causes = rest.filter((each) => each instanceof Error).map((error) => error.message || error.name);
  terminal.note(withoutPassword([String(message), ...causes].join(': ')));
}

/** A reader may leave, such as `head` or a terminal that is lost: the change that is under way ends as it would. */
function outliveReaders(): void {
  process.stderr.on('error', () => undefined);
  process.stdout.on('error', ({ code, message }: NodeJS.ErrnoException) => {
    if (code === 'EPIPE' || code === 'EIO') return;
    terminal.note(`The answer could not be written: ${message}`);
    process.once('exit', () => {
      if (process.exitCode === EXIT.done) process.exitCode = EXIT.unfinished;
    });
  });
}

async function main(): Promise<void> {
  outliveReaders();
  endBySignals();
  Logger.overrideLogger(toStderr);
  const { version } = JSON.parse(readFileSync(join(__dirname, '../../package.json'), 'utf8')) as {
    version: string;
  };
  const commands = program(version, (code) => (process.exitCode = code));
  for (const each of [commands, ...commands.commands]) each.exitOverride();
  try {
    await commands.parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? EXIT.done : EXIT.usage;
    else {
      const code = exitCodeOf(error);
      const text =
        error instanceof Error
          ? code === EXIT.failed
            ? (error.stack ?? error.message)
            : error.message
          : String(error);
      terminal.note(withoutPassword(text));
      process.exitCode = code;
    }
  }
}

void main();
