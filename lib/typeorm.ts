export { IdempotencyCache } from './store/postgres/schema/idempotency-cache.entity';
export { CreateIdempotencyCache1764000000015 } from './store/postgres/schema/migration';
