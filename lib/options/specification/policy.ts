import { z } from 'zod';
import { duration, integer, LONGEST_TIMER, oneOf } from '../schemas';
import { defaultsOf, optionsAt, shapeOf } from './option';

const option = optionsAt('module', 'class', 'method', 'service');

/** What is within `transaction`. */
export const transactionOptions = {
  isolation: option({
    schema: oneOf('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE'),
    otherwise: "the DataSource's",
    text: 'isolation level of the transaction',
  }),
  timeout: option({
    schema: duration(50, LONGEST_TIMER),
    default: '30s',
    text: 'how long the handler may take; then its transaction is rolled back, and the answer is 503',
  }),
  maxConcurrent: option({
    schema: integer(1, 10_000),
    otherwise: "the pool's size less one",
    text: 'transactions of this route that run at once in one process; further ones queue',
  }),
};

const transactionSettings = defaultsOf(transactionOptions);

/** How requests of one key are treated, an HTTP request or a job. */
export const policyOptions = {
  inFlight: option({
    schema: oneOf('wait', 'reject'),
    default: 'wait',
    text: "a duplicate waits for the first response; `'reject'`: it gets 409 at once",
  }),
  waitTimeout: option({
    schema: duration(0, LONGEST_TIMER),
    default: '10s',
    text: 'how long a duplicate waits',
  }),
  lease: option({
    schema: duration(50, LONGEST_TIMER),
    default: '30s',
    text: 'how long a claim outlives a crashed owner; renewed every third of it',
  }),
  onOrphan: option({
    schema: oneOf('retry', 'reject'),
    default: 'retry',
    text: "after a crash the next request runs the handler; `'reject'`: 409 while it is unknown whether the handler finished (one that failed may run again)",
  }),
  onOutage: option({
    schema: oneOf('reject', 'execute'),
    default: 'reject',
    text: "while Postgres is down, a new key gets 503; `'execute'`: its handler runs unprotected",
  }),
  durability: option({
    schema: oneOf('durable', 'fast'),
    default: 'durable',
    text: "the claim's commit is flushed to disk before the handler runs; `'fast'`: it is not; see [Limits](../guarantees/limits.md)",
  }),
  transaction: option({
    schema: z.union(
      [
        z.boolean().transform((on) => on && transactionSettings({})),
        z.strictObject(shapeOf(transactionOptions)).transform((given) => transactionSettings(given)),
      ],
      { error: 'true, false or an object of options' },
    ),
    default: false,
    text: "`true`: claim, effects and outcome are committed together, in the application's own transaction; see [The transaction mode](../guide/transactions.md)",
    options: transactionOptions,
  }),
  maxKeyLength: option({
    schema: integer(1, 1024),
    default: 255,
    unit: 'characters',
    text: 'longest key that is accepted',
  }),
  maxBodySize: option({
    schema: integer(0, 256 * 1024 * 1024),
    default: 1_048_576,
    unit: 'bytes',
    text: 'largest response that is recorded, headers and body together',
  }),
  maxWaiters: option({
    schema: integer(0, 1_000_000),
    default: 1_000,
    text: 'requests of one key that may wait in one process; further ones get 503',
  }),
};
