import { inspect } from 'node:util';
import type { z } from 'zod';
import { isMarked } from '../core/errors';
import { objectsIn, unreadable } from './readable';
import { suggestionsFor } from './suggestions';

const INVALID_OPTIONS = Symbol.for('nestjs-idempotency.invalid-options');

/**
 * Options that are out of range or unknown. The message names each option, its value and what is allowed.
 * Test with {@link isInvalidOptionsError}.
 */
export class InvalidOptionsError extends Error {
  readonly [INVALID_OPTIONS] = true;

  constructor(where: string, problems: readonly string[]) {
    super(`${where}: ${problems.join('; ')}`);
    this.name = 'InvalidOptionsError';
  }
}

export function isInvalidOptionsError(error: unknown): error is InvalidOptionsError {
  return isMarked(error, INVALID_OPTIONS);
}

/** Options that are known, but may only be given elsewhere. */
export interface OtherOptions {
  readonly schema: z.ZodType;
  /** Where they may be given. */
  readonly place: string;
}

/**
 * @param others what may be meant by an option that is unknown here
 * @throws InvalidOptionsError
 */
export function validate<S extends z.ZodType>(
  schema: S,
  value: unknown,
  where: string,
  others?: OtherOptions,
): z.output<S> {
  const problems = unreadable(schema, value);
  if (problems.length > 0) throw new InvalidOptionsError(where, problems);
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const unknown = (option: string): string => describeUnknown(option, schema, others);
  throw new InvalidOptionsError(
    where,
    result.error.issues.flatMap((issue) => describe(issue, value, unknown)),
  );
}

/** What stands there may be a key or a password, or hold one. */
const HIDDEN = new Set(['encryption', 'secret', 'redis.client', 'postgres.pool']);

function describe(issue: z.core.$ZodIssue, options: unknown, unknown: (option: string) => string): string[] {
  const path = issue.path.map(String);
  const value = valueAt(options, path);
  if (issue.code === 'unrecognized_keys') return issue.keys.map((key) => unknown([...path, key].join('.')));
  // In a union, the branch that the value was meant for says best what is wrong.
  if (
    issue.code === 'invalid_union' &&
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value)
  ) {
    const meant = issue.errors.find((branch) =>
      branch.some((inner) => inner.path.length > 0 || inner.code === 'unrecognized_keys'),
    );
    if (meant)
      return meant.flatMap((inner) =>
        describe({ ...inner, path: [...issue.path, ...inner.path] }, options, unknown),
      );
  }
  if (path.length === 0) return [`must be an object, not ${inspect(value, { depth: 0 })}`];
  const isHidden = [path[0] ?? '', path.join('.')].some((at) => HIDDEN.has(at));
  // In place of the options of a store there may be its URL.
  const isUrl = typeof value === 'string' && value.includes('://');
  const found = isHidden || isUrl ? 'not valid (its value is not shown)' : shown(value);
  return [`option "${path.join('.')}" is ${found}, but must be ${issue.message}`];
}

/** @param option by its path, as each that is known is called */
function describeUnknown(option: string, schema: z.ZodType, others?: OtherOptions): string {
  const known = optionsIn(schema);
  const elsewhere = others ? optionsIn(others.schema) : [];
  const place = others?.place ?? '';
  if (elsewhere.includes(option)) return `option "${option}" is unknown here: it belongs to ${place}`;
  const beside = known.filter((each) => parentOf(each) === parentOf(option));
  const meant = meantBy(nameOf(option), beside, [...new Set([...known, ...elsewhere])]).map((each) =>
    known.includes(each) ? `"${each}"` : `"${each}" of ${place}`,
  );
  const guess = meant.length > 0 ? ` (did you mean ${inWords(meant)}?)` : '';
  return `option "${option}" is unknown${guess}: known are ${beside.map(nameOf).join(', ')}`;
}

/** The same name in another place is meant rather than a similar one in this. */
function meantBy(name: string, beside: readonly string[], known: readonly string[]): readonly string[] {
  const misplaced = known.filter((each) => nameOf(each) === name);
  if (misplaced.length > 0) return misplaced;
  const similar = suggestionsFor(name, beside.map(nameOf));
  if (similar.length > 0) return beside.filter((each) => similar.includes(nameOf(each)));
  const elsewhere = suggestionsFor(name, known.map(nameOf));
  return known.filter((each) => elsewhere.includes(nameOf(each)));
}

function nameOf(option: string): string {
  return option.slice(option.lastIndexOf('.') + 1);
}

function parentOf(option: string): string {
  return option.slice(0, Math.max(0, option.lastIndexOf('.')));
}

function inWords(names: readonly string[]): string {
  return names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} or ${names.at(-1) ?? ''}`;
}

/** The paths of all options that a schema knows, those within another behind it. */
function optionsIn(schema: z.core.$ZodType, within = ''): string[] {
  return objectsIn(schema)
    .flatMap(({ shape }) => Object.entries<z.core.$ZodType>(shape))
    .flatMap(([name, inner]) => [`${within}${name}`, ...optionsIn(inner, `${within}${name}.`)]);
}

/** Of an instance of a class, only that it is one: it may be a client, with its password. */
function shown(value: unknown): string {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  const prototype = isObject ? (Object.getPrototypeOf(value) as object | null) : null;
  if (!prototype || prototype === Object.prototype) return inspect(value);
  return 'an instance of a class';
}

function valueAt(value: unknown, path: readonly string[]): unknown {
  let current = value;
  for (const step of path) current = (current as Record<string, unknown> | undefined)?.[step];
  return current;
}
