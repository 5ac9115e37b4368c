#!/usr/bin/env node
import { Logger, type LoggerService } from '@nestjs/common';
import { CommanderError } from 'commander';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { EXIT, exitCodeOf } from './exit';
import { visible } from '../admin/readable';
import { withoutPassword } from './output';
import { program } from './program';
import { terminal } from './terminal';

/** Standard output belongs to the answer. */
const toStderr: LoggerService = {
  log: (message) => terminal.note(String(message)),
  warn: (message) => terminal.note(String(message)),
  error: (message) => terminal.note(String(message)),
};

async function main(): Promise<void> {
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
      terminal.note(withoutPassword(code === EXIT.failed ? text : visibleLines(text)));
      process.exitCode = code;
    }
  }
}

function visibleLines(text: string): string {
  return text.split('\n').map(visible).join('\n');
}

void main();
