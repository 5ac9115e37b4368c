import { z } from 'zod';

/**
 * A `Redis` or `Cluster` of ioredis, from any copy of it. Described by what it has, as an application without
 * Redis has no ioredis to take the type from.
 */
export interface IoredisClient {
  readonly isCluster: boolean;
  readonly status: string;
  duplicate(...args: never[]): unknown;
}

/** A `Pool` of pg, from any copy of it. */
export interface PgPool {
  readonly totalCount: number;
  readonly waitingCount: number;
  connect(...args: never[]): unknown;
}

export const ioredisClient = z.custom<IoredisClient>(
  (value) =>
    hasAll(value, { isCluster: 'boolean', status: 'string', options: 'object', duplicate: 'function' }),
  { error: 'a Redis or Cluster of ioredis' },
);

export const pgPool = z.custom<PgPool>(
  (value) =>
    hasAll(value, { totalCount: 'number', options: 'object', connect: 'function', Client: 'function' }),
  { error: 'a Pool of pg' },
);

/** @param remedy where a client belongs that was given in place of the options */
export function optionsAround<S extends z.ZodType>(client: z.ZodType, remedy: string, options: S) {
  return z.preprocess((value, context) => {
    if (client.safeParse(value).success)
      context.issues.push({ code: 'custom', input: value, message: remedy });
    return value;
  }, options);
}

/** Not `instanceof`: the application may have another copy of the package than we would find. */
function hasAll(value: unknown, types: Readonly<Record<string, string>>): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const members = value as Readonly<Record<string, unknown>>;
  return Object.entries(types).every(([name, type]) => typeof members[name] === type);
}
