import { ioredisClient } from '../clients';
import { duration, LONGEST_TIMER, name, text } from '../schemas';
import { optionsAt } from './option';

const option = optionsAt('module');

export const redisOptions = {
  connection: option({
    schema: name,
    otherwise: 'the default one',
    text: 'name of the `@nestjs-modules/ioredis` connection that the module duplicates',
  }),
  client: option({
    schema: ioredisClient,
    otherwise: 'the named connection',
    text: 'a `Redis` or `Cluster` of ioredis that the module duplicates, in place of a connection of `@nestjs-modules/ioredis`; see [Bring your own clients](../guide/clients.md)',
  }),
  ttl: option({
    schema: duration(1_000),
    default: '24h',
    text: 'how long Redis keeps a response; Postgres answers after that',
  }),
  timeout: option({
    schema: duration(10, LONGEST_TIMER),
    default: '250ms',
    text: 'how long a command may take before it counts as failed; no request waits for Redis longer than 20 ms before it asks Postgres',
  }),
  keyPrefix: option({ schema: text, default: 'idempotency:', text: 'put before every Redis key' }),
};
