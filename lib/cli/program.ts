import { Command, Option } from 'commander';
import { RECORD_STATES } from '../core/record-directory';
import { doctor, type DoctorCommand } from './doctor/doctor';
import type { ExitCode } from './exit';
import { migrate, type MigrateCommand } from './migrate';
import * as records from './records';
import { addCommonOptions, fromEnvironment } from './settings';
import { cleanup, stats, type CleanupCommand, type StatsCommand } from './upkeep';

/** @param end told the exit code of the command that was run */
export function program(version: string, end: (code: ExitCode) => void): Command {
  const root = new Command('nestjs-idempotency')
    .description(
      'Looks after the records of nestjs-idempotency: see docs/operate/operating.md for exit codes and examples.',
    )
    .version(version)
    .showHelpAfterError('(run with --help for usage)')
    .addHelpText(
      'after',
      '\nFrom the environment alone: IDEMPOTENCY_SECRET (IDEMPOTENCY_SECRET_BASE64 for a secret that is a Buffer), and ' +
        'IDEMPOTENCY_ENCRYPTION_KEYS (separated by commas).',
    );

  const verb = (name: string, description: string): Command =>
    addCommonOptions(root.command(name).description(description));
  const withFilter = (command: Command): Command =>
    command
      .option('--route <route>', "path, or method and path, with the global prefix: 'POST /api/leads/:id'")
      .option('--principal <name>', "a user's id, sub or userId, or what the `scope` option gave")
      .option('--principal-text <text>', 'a principal as `list` prints it, such as user.id:s:u7')
      .option('--key <key>', 'as the client sent it')
      .option('--scope <scope>', 'the whole scope')
      .option('--older-than <duration>', 'since the key was first claimed, such as 30d');
  const withChange = (command: Command): Command =>
    command
      .option('-y, --yes', 'do not ask')
      .option('--by <name>', 'who does it (default: the user of the operating system)')
      .option('--reason <text>', 'why, for the audit', '')
      .option('--audit <file>', 'append the audit event, as a line of JSON')
      .option('--unmarked-redis', 'change records although no application has left its mark in this Redis');

  verb('migrate', 'make the table')
    .option('--partitioned', 'in 16 partitions, for very large tables')
    .option(
      '--indexes',
      'also the indexes that let `list` find callers, keys and routes in very large tables',
    )
    .option('--dry-run', 'print the SQL')
    .action(async (options: MigrateCommand) => end(await migrate(options)));

  verb('doctor', 'check table, rights, server settings, Redis and keys; each finding has its fix')
    .addOption(prometheus('check that the alerts are loaded'))
    .action(async (options: DoctorCommand) => end(await doctor(options)));

  withFilter(verb('list', 'list records, a page at a time'))
    .addOption(new Option('--state <state>').choices(RECORD_STATES))
    .option('--limit <count>', 'records of one page', '50')
    .option('--cursor <cursor>', 'of the page before')
    .action(async (options: records.ListCommand) => end(await records.list(options)));

  verb('show', 'show one record')
    .argument('<record>', 'its hash, or its key')
    .option('--scope <scope>', 'of the key')
    .option('--headers', 'with the headers of the response')
    .option('--body', 'with the body of the response')
    .action(async (record: string, options: records.ShowCommand) => end(await records.show(record, options)));

  withChange(verb('resolve', 'settle an unknown outcome with the response that retries must get'))
    .argument('<record>', 'its hash, or its key')
    .option('--scope <scope>', 'of the key')
    .option('--status <status>')
    .option('--header <line>', "such as 'Content-Type: application/json'; may be repeated", collect, [])
    .option('--body <text>', '@file reads a file, @- the standard input')
    .option('--value <json>', 'in place of a response: what execute() must return')
    .action(async (record: string, options: records.ResolveCommand) =>
      end(await records.resolve(record, options)),
    );

  withChange(verb('retry', 'let the next request run the handler of an orphaned record'))
    .argument('<record>', 'its hash, or its key')
    .option('--scope <scope>', 'of the key')
    .action(async (record: string, options: records.ResolveCommand) =>
      end(await records.retry(record, options)),
    );

  withChange(verb('forget', 'delete one record in both stores'))
    .argument('<record>', 'its hash, or its key')
    .option('--scope <scope>', 'of the key')
    .action(async (record: string, options: records.ResolveCommand) =>
      end(await records.forget(record, options)),
    );

  withChange(
    withFilter(verb('purge', 'delete records in both stores, so that no process replays them')),
  ).action(async (options: records.PurgeCommand) => end(await records.purge(options)));

  verb('stats', 'what this application has in the table')
    .option('--whole-table', 'count the records of all namespaces that share the table')
    .addOption(prometheus('ask it for the hit rate of the last hour'))
    .addOption(
      fromEnvironment(
        new Option('--prometheus-job <job>', 'whose hit rate (default: of all applications in it)'),
        'PROMETHEUS_JOB',
      ),
    )
    .action(async (options: StatsCommand) => end(await stats(options)));

  verb('cleanup', 'delete expired records now')
    .option('--batch-size <rows>', 'of one statement', '1000')
    .action(async (options: CleanupCommand) => end(await cleanup(options)));

  return root;
}

function prometheus(text: string): Option {
  return fromEnvironment(new Option('--prometheus-url <url>', text), 'PROMETHEUS_URL');
}

function collect(value: string, before: readonly string[]): string[] {
  return [...before, value];
}
