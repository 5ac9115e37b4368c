import type { Program } from './debian-packages';
import { findProgram } from './program';

/**
 * The `psql` that PSQL names, that of PATH, or one that is fetched: the embedded Postgres comes without it.
 * @throws Error that says in one line what to install
 */
export function findPsql(): Promise<Program> {
  return findProgram({
    variable: 'PSQL',
    command: 'psql',
    debian: { name: 'psql', packages: ['postgresql-client-15'], path: 'usr/lib/postgresql/15/bin/psql' },
    unavailable: (reason, cause) =>
      new Error(`${reason}: install psql (apt-get install postgresql-client), or set PSQL.`, { cause }),
  });
}
