/** What an application may choose, and what it may choose from. */
const FACTORS = {
  nest: ['11', '12'],
  platform: ['express', 'fastify'],
  modules: ['cjs', 'esm'],
  typeorm: ['0.3', '1'],
  nestTypeorm: ['11', '12'],
  ioredis: ['5', '6'],
  node: ['this', 'newest'],
  typescript: ['5.9', '6.0'],
  swagger: ['without', 'with'],
} as const;

type Factors = { readonly [F in keyof typeof FACTORS]: (typeof FACTORS)[F][number] };

export interface Row extends Omit<Factors, 'typescript'> {
  readonly typescript: Factors['typescript'] | '7.0';
  /** Which versions within these majors: the oldest are those that the peer ranges and `engines` begin with. */
  readonly versions: 'newest' | 'oldest';
  /**
   * TypeORM wants ioredis 5 as its optional peer, so that npm refuses ioredis 6 beside it, unless the application's
   * `overrides` say that it knows better.
   */
  readonly override: boolean;
}

/** All pairs of factors are in these. */
const PAIRS: readonly Row[] = [
  row('12', 'express', 'esm', '1', '12', '5', 'newest', '6.0', 'without'),
  row('12', 'fastify', 'cjs', '1', '12', '6', 'newest', '6.0', 'with'),
  row('12', 'fastify', 'esm', '0.3', '12', '5', 'newest', '5.9', 'with'),
  row('12', 'express', 'cjs', '0.3', '12', '6', 'this', '5.9', 'with'),
  row('12', 'express', 'esm', '0.3', '12', '5', 'this', '5.9', 'without'),
  row('11', 'express', 'cjs', '0.3', '11', '5', 'newest', '6.0', 'with'),
  row('11', 'express', 'cjs', '1', '12', '6', 'this', '6.0', 'without'),
  row('11', 'fastify', 'esm', '1', '11', '6', 'this', '5.9', 'without'),
];

export const ROWS: readonly Row[] = [
  ...PAIRS,
  // @nestjs/swagger does not take TypeScript 7 yet.
  { ...row('12', 'fastify', 'esm', '1', '12', '5', 'this', '6.0', 'without'), typescript: '7.0' },
  { ...row('11', 'express', 'cjs', '0.3', '11', '5', 'this', '5.9', 'without'), versions: 'oldest' },
  { ...row('12', 'express', 'esm', '1', '12', '6', 'this', '6.0', 'without'), override: false },
];

function row(
  nest: Factors['nest'],
  platform: Factors['platform'],
  modules: Factors['modules'],
  typeorm: Factors['typeorm'],
  nestTypeorm: Factors['nestTypeorm'],
  ioredis: Factors['ioredis'],
  node: Factors['node'],
  typescript: Factors['typescript'],
  swagger: Factors['swagger'],
): Row {
  const factors = { nest, platform, modules, typeorm, nestTypeorm, ioredis, node, typescript, swagger };
  return { ...factors, versions: 'newest', override: ioredis === '6' };
}

/** Whether the peer ranges of others let these be installed together: those of @nestjs/typeorm 11 end at Nest 11. */
function mayMeet(factors: Partial<Factors>): boolean {
  return !(factors.nest === '12' && factors.nestTypeorm === '11');
}

/** Whether a row is there to say that npm refuses it. */
export function mayBeRefused({ ioredis, override }: Row): boolean {
  return ioredis === '6' && !override;
}

/** Every two choices that may meet, but meet in none of the rows that are installed with the newest versions. */
export function uncoveredPairs(rows: readonly Row[] = ROWS): string[] {
  const choices = Object.entries(FACTORS).flatMap(([name, values]) =>
    values.map((value) => ({ name: name as keyof Factors, value })),
  );
  const tried = rows.filter((each) => each.versions === 'newest' && !mayBeRefused(each));
  return choices.flatMap((one, index) =>
    choices
      .slice(index + 1)
      .filter(
        (other) => other.name !== one.name && mayMeet({ [one.name]: one.value, [other.name]: other.value }),
      )
      .filter(
        (other) => !tried.some((each) => each[one.name] === one.value && each[other.name] === other.value),
      )
      .map((other) => `${one.name} ${one.value} and ${other.name} ${other.value}`),
  );
}
