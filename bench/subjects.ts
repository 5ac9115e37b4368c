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

function ours(mode: string, platform: Platform, lib?: string): Subject {
  const bare = platform === 'express' ? 'bare' : 'bare, Fastify';
  const name = (mode === 'bare' ? 'bare' : mode) + (platform === 'fastify' ? ', Fastify' : '');
  const redisDown = mode === 'redis down';
  return {
    name: lib ? nameBefore(name) : name,
    entry: 'app.ts',
    mode: redisDown ? 'durable' : mode,
    platform,
    bare,
    redisDown,
    lib,
  };
}

/** What no module can do with less: no product, but what a goal can ask for on a machine. */
const FLOORS = ['floor', 'floor, fast', 'floor, redis down'] as const;
const FLOOR_ON_FASTIFY = 'floor, Fastify';

function floor(mode: string): Subject {
  return { name: mode, entry: 'floor.ts', mode, platform: 'express', bare: 'bare' };
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
  ...FLOORS.map(floor),
  ...RIVALS,
  ours('bare', 'fastify'),
  ...OURS.map((mode) => ours(mode, 'fastify')),
  { ...floor('floor'), name: FLOOR_ON_FASTIFY, platform: 'fastify', bare: 'bare, Fastify' },
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
  return name === FLOOR_ON_FASTIFY || FLOORS.some((each) => each === name);
}
