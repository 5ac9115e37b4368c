import fc from 'fast-check';
import { json, text } from './arbitraries';

type Named = readonly [name: string, value: Model];

/** What a parsed body may hold, as a model: values of it are built as often as a test needs them. */
export type Model =
  | readonly ['json', unknown]
  | readonly ['list', readonly Model[]]
  | readonly ['object' | 'bare', readonly Named[]]
  | readonly ['map', readonly (readonly [Model, Model])[]]
  | readonly ['set', readonly Model[]]
  | readonly ['bytes' | 'buffer' | 'view' | 'words', readonly number[]]
  | readonly ['query' | 'form', readonly (readonly [string, string])[]]
  | readonly ['date' | 'special', number]
  | readonly ['bigint', bigint]
  | readonly ['regexp', string, string]
  | readonly ['boxed', string | boolean]
  | readonly ['spells', Model]
  | readonly ['undefined'];

const octets = fc.array(fc.nat(255), { maxLength: 40 });
const pairs = fc.array(
  fc.tuple(fc.constantFrom('a', 'b', ''), fc.oneof(fc.constantFrom('1', '2'), fc.string())),
  {
    maxLength: 4,
  },
);
/** Names that are short and equal often, and some that are spelled as digests. */
const name = fc.oneof(fc.constantFrom('a', 'b', '__proto__', 'toJSON', 'length'), text, long());

function long(): fc.Arbitrary<string> {
  return fc
    .tuple(fc.constantFrom('x', '\ud800', '\udfff', 'é'), fc.integer({ min: 250, max: 400 }))
    .map(repeat);
}

function repeat([unit, times]: [string, number]): string {
  return unit.repeat(times);
}

export const model: fc.Arbitrary<Model> = fc.letrec<{ model: Model; named: Named[] }>((tie) => ({
  model: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.oneof(json, long()).map((value) => ['json', value] as const),
    fc.tuple(fc.constantFrom('bytes', 'buffer', 'view', 'words'), octets),
    fc.tuple(fc.constantFrom('query', 'form'), pairs),
    fc.tuple(fc.constant('date'), fc.constantFrom(0, 1, 1e12, NaN)),
    fc.tuple(fc.constant('special'), fc.constantFrom(NaN, Infinity, -Infinity)),
    fc.tuple(
      fc.constant('bigint'),
      fc.oneof(fc.bigInt(), fc.bigInt({ min: 2n ** 4_000n, max: 2n ** 4_001n })),
    ),
    fc.tuple(fc.constant('regexp'), fc.constantFrom('a', 'b', '"'), fc.constantFrom('', 'g', 'i')),
    fc.tuple(fc.constant('boxed'), fc.oneof(text, fc.boolean())),
    fc.constant(['undefined'] as const),
    fc.tuple(fc.constant('list'), fc.array(tie('model'), { maxLength: 4 })),
    fc.tuple(fc.constant('set'), fc.array(tie('model'), { maxLength: 3 })),
    fc.tuple(fc.constant('map'), fc.array(fc.tuple(tie('model'), tie('model')), { maxLength: 3 })),
    fc.tuple(fc.constant('spells'), tie('model')),
    fc.tuple(fc.constantFrom('object', 'bare'), tie('named')),
  ),
  named: fc.uniqueArray(fc.tuple(name, tie('model')), { selector: ([each]) => each, maxLength: 4 }),
})).model;

export interface Manner {
  /** Builds equal parts once, and refers to them. */
  readonly shared?: Map<string, unknown>;
  /** Builds what has no order in reverse. */
  readonly reversed?: boolean;
}

export function built(from: Model, manner: Manner = {}): unknown {
  if (!manner.shared) return made(from, manner);
  const known = meaning(from);
  if (!manner.shared.has(known)) manner.shared.set(known, made(from, manner));
  return manner.shared.get(known);
}

/** Says what an application computes from private state. */
class Spells {
  readonly #value: unknown;
  constructor(value: unknown) {
    this.#value = value;
  }
  toJSON(): unknown {
    return this.#value;
  }
}

function made(from: Model, manner: Manner): unknown {
  const build = (each: Model): unknown => built(each, manner);
  const ordered = <T>(each: readonly T[]): T[] => (manner.reversed ? [...each].reverse() : [...each]);
  switch (from[0]) {
    case 'json':
      return from[1];
    case 'list':
      return from[1].map(build);
    case 'object':
    case 'bare': {
      const object = (from[0] === 'bare' ? Object.create(null) : {}) as object;
      for (const [each, value] of ordered(from[1]))
        Object.defineProperty(object, each, { value: build(value), enumerable: true, configurable: true });
      return object;
    }
    // Members in lists, as a Set and a Map take equal texts and numbers for one.
    case 'map':
      return new Map(ordered(from[1]).map(([key, value]) => [[build(key)], build(value)]));
    case 'set':
      return new Set(ordered(from[1]).map((each) => [build(each)]));
    case 'bytes':
      return Buffer.from(from[1]);
    case 'buffer':
      return new Uint8Array(from[1]).buffer;
    case 'view':
      return new DataView(new Uint8Array([0, ...from[1], 0]).buffer, 1, from[1].length);
    case 'words':
      return Uint16Array.from(from[1]);
    case 'query':
      return new URLSearchParams(from[1].map(([each, value]): [string, string] => [each, value]));
    case 'form': {
      const form = new FormData();
      for (const [each, value] of from[1]) form.append(each, value);
      return form;
    }
    case 'date':
      return new Date(from[1]);
    case 'special':
    case 'bigint':
      return from[1];
    case 'regexp':
      return new RegExp(from[1], from[2]);
    case 'boxed':
      return Object(from[1]) as unknown;
    case 'spells':
      return new Spells(build(from[1]));
    case 'undefined':
      return undefined;
  }
}

/** A text that two models share if, and only if, they are equal data. */
export function meaning(from: Model): string {
  switch (from[0]) {
    case 'json':
      return meaningOfJson(from[1]);
    case 'boxed':
      return meaningOfJson(from[1]);
    case 'list':
      return `[${from[1].map(meaning).join()}]`;
    case 'object':
    case 'bare':
      return `{${from[1]
        .map(([each, value]) => `${JSON.stringify(each)}=${meaning(value)}`)
        .sort()
        .join()}}`;
    case 'map':
      return `map ${from[1]
        .map(([key, value]) => `${meaning(key)}=${meaning(value)}`)
        .sort()
        .join()} end`;
    case 'set':
      return `set ${from[1].map(meaning).sort().join()} end`;
    case 'query':
    case 'form': {
      const names = [...new Set(from[1].map(([each]) => each))].sort();
      return `pairs ${JSON.stringify(names.map((each) => from[1].filter(([other]) => other === each)))}`;
    }
    case 'spells':
      return `spells ${meaning(from[1])} end`;
    case 'bytes':
    case 'buffer':
    case 'view':
    case 'words':
    case 'date':
    case 'special':
    case 'bigint':
    case 'regexp':
    case 'undefined':
      return from.map(String).join(' ');
  }
}

function meaningOfJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(meaningOfJson).join()}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value).map(
    ([each, member]) => `${JSON.stringify(each)}=${meaningOfJson(member)}`,
  );
  return `{${members.sort().join()}}`;
}

/** The model with one of its parts replaced. */
export function changedModel(from: Model, pick: number, to: Model): Model {
  if (from[0] === 'list' || from[0] === 'set') return [from[0], swapped(from[1], pick, to, changedModel)];
  if (from[0] === 'object' || from[0] === 'bare')
    return [
      from[0],
      swapped(from[1], pick, to, ([each, value], rest, other): Named => [
        each,
        changedModel(value, rest, other),
      ]),
    ];
  if (from[0] === 'map')
    return [
      'map',
      swapped(
        from[1],
        pick,
        to,
        ([key, value], rest, other) => [key, changedModel(value, rest, other)] as const,
      ),
    ];
  if (from[0] === 'spells') return ['spells', changedModel(from[1], pick, to)];
  return to;
}

function swapped<T>(
  all: readonly T[],
  pick: number,
  to: Model,
  change: (each: T, rest: number, to: Model) => T,
): T[] {
  const at = pick % Math.max(all.length, 1);
  return all.map((each, i) => (i === at ? change(each, Math.floor(pick / all.length), to) : each));
}
