import { z } from 'zod';
import { pgPool } from '../clients';
import { boolean, duration, integer, LONGEST_TIMER, name } from '../schemas';
import { optionsAt } from './option';

const option = optionsAt('module');

/** Records that a cleanup may delete in one statement. */
export const LARGEST_CLEANUP = 100_000;

export const postgresOptions = {
  dataSource: option({
    schema: name,
    otherwise: 'the default one',
    text: 'name of the TypeORM DataSource',
  }),
  pool: option({
    schema: pgPool,
    otherwise: "the DataSource's",
    text: 'a `Pool` of pg whose settings the module copies, in place of a DataSource of TypeORM; see [Bring your own clients](../guide/clients.md)',
  }),
  retention: option({ schema: duration(1_000), default: '30d', text: 'how long a record answers' }),
  cleanupInterval: option({
    schema: z.union([z.literal(false), duration(100, LONGEST_TIMER)], {
      error: 'false, or a duration from 100 ms to 24 days',
    }),
    default: '1h',
    text: 'how often expired rows are deleted, on one instance at a time; `false`: never by the module',
  }),
  cleanupBatchSize: option({
    schema: integer(1, LARGEST_CLEANUP),
    default: 1_000,
    unit: 'rows',
    text: 'that one statement of the cleanup deletes at most',
  }),
  timeout: option({
    schema: duration(10, LONGEST_TIMER),
    default: '2s',
    text: 'how long Postgres may take for a statement; a statement may wait as long for its turn in the process',
  }),
  poolSize: option({
    schema: integer(2, 100),
    default: 4,
    text: "connections of the module's own pool (at least 2); one more for upkeep, and one for the looks of operators",
  }),
  preparedStatements: option({
    schema: boolean,
    default: true,
    text: 'whether statements are prepared once per connection; switched off behind a pooler that cannot',
  }),
};
