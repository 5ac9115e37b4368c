import { inspect } from 'node:util';
import type { z } from 'zod';
import { isMarked } from '../core/errors';

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

/** @throws InvalidOptionsError */
export function validate<S extends z.ZodType>(schema: S, value: unknown, where: string): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new InvalidOptionsError(
    where,
    result.error.issues.flatMap((issue) => describe(issue, value)),
  );
}

/** What stands there may be a key, or hold one. */
const HIDDEN = new Set(['encryption', 'secret']);

function describe(issue: z.core.$ZodIssue, options: unknown): string[] {
  const path = issue.path.map(String);
  const value = valueAt(options, path);
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => `option "${[...path, key].join('.')}" is unknown`);
  }
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
      return meant.flatMap((inner) => describe({ ...inner, path: [...issue.path, ...inner.path] }, options));
  }
  if (path.length === 0) return [`must be an object, not ${inspect(value, { depth: 0 })}`];
  const found = HIDDEN.has(path[0] ?? '') ? 'not valid (its value is not shown)' : inspect(value);
  return [`option "${path.join('.')}" is ${found}, but must be ${issue.message}`];
}

function valueAt(value: unknown, path: readonly string[]): unknown {
  let current = value;
  for (const step of path) current = (current as Record<string, unknown> | undefined)?.[step];
  return current;
}
