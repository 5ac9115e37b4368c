export type Platform = 'express' | 'fastify';

/** One application to measure, in a process of its own. */
export interface Subject {
  readonly name: string;
  /** The file that runs it, and what it is told by the environment. */
  readonly entry: 'app.ts' | 'floor.ts' | 'rivals/node-idempotency.ts' | 'rivals/express.ts';
  readonly mode: string;
  readonly platform: Platform;
  /** The same application without protection, which its figures are ratios to; its own name if it is that itself. */
  readonly bare: string;
  /** Whether its Redis is stopped before the measurements. */
  readonly redisDown?: boolean;
  /** Another copy of `lib`, to compare two states of it. */
  readonly lib?: string;
}

const OURS = ['durable', 'fast', 'transaction', 'redis only', 'postgres only', 'redis down'] as const;

function on(platform: Platform, mode: string): string {
  return platform === 'fastify' ? `${mode}, Fastify` : mode;
}

function ours(mode: string, platform: Platform, lib?: string): Subject {
  const name = on(platform, mode);
  const redisDown = mode === 'redis down';
  return {
    name: lib ? nameBefore(name) : name,
    entry: 'app.ts',
    mode: redisDown ? 'durable' : mode,
    platform,
    bare: on(platform, 'bare'),
    redisDown,
    lib,
  };
}

/** What no module can do with less: no product, but what a goal can ask for on a machine. */
const FLOORS: readonly Subject[] = [
  ...['floor', 'floor, fast', 'floor, redis down'].map((mode) => floor(mode, 'express')),
  floor('floor', 'fastify'),
];

function floor(mode: string, platform: Platform): Subject {
  return { name: on(platform, mode), entry: 'floor.ts', mode, platform, bare: on(platform, 'bare') };
}

const EXPRESS = { entry: 'rivals/express.ts', platform: 'express', bare: 'bare, Express 4' } as const;
const NEST_10 = { entry: 'rivals/node-idempotency.ts', platform: 'express', bare: 'bare, Nest 10' } as const;

export const NODE_IDEMPOTENCY = '@node-idempotency/nestjs';

const RIVALS: readonly Subject[] = [
  { name: 'bare, Nest 10', mode: 'bare', ...NEST_10 },
  { name: NODE_IDEMPOTENCY, mode: 'protected', ...NEST_10 },
  { name: 'bare, Express 4', mode: 'bare', ...EXPRESS },
  { name: 'express-idempotency', mode: 'express-idempotency', ...EXPRESS },
  { name: 'Powertools', mode: 'powertools', ...EXPRESS },
];

export const SUBJECTS: readonly Subject[] = [
  ours('bare', 'express'),
  ...OURS.map((mode) => ours(mode, 'express')),
  ...FLOORS,
  ...RIVALS,
  ours('bare', 'fastify'),
  ...OURS.map((mode) => ours(mode, 'fastify')),
];

/** Ours as it is and as it was, in the modes that are named. */
export function beforeAndAfter(
  lib: string,
  modes: readonly string[],
  platforms: readonly Platform[],
): readonly Subject[] {
  return platforms.flatMap((platform) => [
    ours('bare', platform),
    ...modes.flatMap((mode) => [ours(mode, platform, lib), ours(mode, platform)]),
  ]);
}

/** The name of the same subject before, if `name` is compared with it. */
export function nameBefore(name: string): string {
  return `${name}, before`;
}

export function isBare({ name, bare }: Subject): boolean {
  return name === bare;
}

/** The mode whose records share the handler's transaction: nothing to measure where the handler writes nothing. */
export function isInTransaction({ mode }: Subject): boolean {
  return mode === 'transaction';
}

export function isFloor({ name }: Pick<Subject, 'name'>): boolean {
  return FLOORS.some((each) => each.name === name);
}
