import { isStoreUnavailableError } from '../../core/errors';
import { EXIT, type ExitCode } from '../exit';
import { table, withoutPassword } from '../output';
import { placeOf, type CommonOptions } from '../settings';
import { terminal } from '../terminal';
import { checkAlerts } from './alert-checks';
import { findings, type Finding } from './finding';
import { checkServer, checkTable } from './postgres-checks';
import { checkRedis } from './redis-checks';

export interface DoctorCommand extends CommonOptions {
  readonly prometheusUrl?: string;
}

/** Checks all that the module relies on, and changes nothing. */
export async function doctor(options: DoctorCommand): Promise<ExitCode> {
  const place = placeOf(options, process.env);
  const [server, redis, alerts] = await Promise.all([
    unlessDown(() => checkServer(place)),
    checkRedis(place),
    checkAlerts(options.prometheusUrl),
  ]);
  const isDown = server.some(({ check }) => check === 'postgres');
  const found = [
    ...server,
    ...(isDown ? [] : await unlessDown(() => checkTable(place))),
    ...redis,
    ...alerts,
  ];
  if (options.json) terminal.printJson({ findings: found });
  else print(found);
  return found.some(({ level }) => level === 'error') ? EXIT.nothing : EXIT.done;
}

async function unlessDown(check: () => Promise<Finding[]>): Promise<Finding[]> {
  try {
    return await check();
  } catch (error) {
    if (!isStoreUnavailableError(error)) throw error;
    const { cause } = error;
    return findings('postgres', [
      'error',
      `it cannot be used: ${withoutPassword(cause instanceof Error ? cause.message || error.message : error.message)}`,
      'Check DATABASE_URL (host, port, database, user, password), and that pg_hba.conf and the network let this machine in.',
    ]);
  }
}

function print(found: readonly Finding[]): void {
  terminal.print(
    table(
      ['', 'CHECK', 'FINDING'],
      found.map(({ level, check, problem = '' }) => [level, check, problem]),
    ),
  );
  const fixes = found.filter(({ fix }) => fix !== undefined);
  if (fixes.length > 0)
    terminal.print(`\n${fixes.map(({ check, fix }) => `${check}: ${fix ?? ''}`).join('\n')}`);
}
