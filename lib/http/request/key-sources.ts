import type { ExecutionContext } from '@nestjs/common';
import { inspect } from 'node:util';
import { invalidKey } from '../../core/key';
import { headerName } from '../../options/schemas';
import { InvalidOptionsError } from '../../options/validate';
import { bodyOf, rawRequest, requestOf } from '../platform';
import { valuesOf } from './header-values';
import { agreed } from './key';

type KeySource = (context: ExecutionContext) => string | undefined;

/**
 * For the `key` option: the key is a property of the parsed body, such as a webhook's event id. A body without it has no
 * key: set `required: true` where each request has one.
 * @param path of the property, with dots between its steps: `'id'`, `'data.object.id'`, `'entry.0.id'`
 * @returns a function that throws IdempotencyError `key_invalid` (400) for a value that is neither a text nor a whole
 * number, and TypeError (500) for a body that no parser has read
 * @throws InvalidOptionsError for a path that is empty, or has an empty step
 */
export function fromBody(path: string): KeySource {
  const steps = typeof path === 'string' ? path.split('.') : [''];
  if (steps.includes(''))
    throw new InvalidOptionsError('fromBody()', [`${shown(path)} is not a path, such as 'id' or 'data.id'`]);
  return named(`fromBody('${path}')`, (context) => {
    const body = bodyOf(requestOf(context));
    if (body instanceof Uint8Array)
      throw new TypeError(
        `fromBody('${path}') needs a parsed body, but the parser of this route leaves bytes. Have the body parsed as ` +
          'JSON, and keep its bytes with `rawBody: true` if a signature needs them.',
      );
    return keyText(valueAt(body, steps), path);
  });
}

/**
 * For the `key` option: the key is the value of this header, taken literally, such as a sender's delivery id. (The
 * `header` option reads quotes as the standard's.) A request without the header has no key.
 * @param name in any case, such as `'X-GitHub-Delivery'`
 * @returns a function that throws IdempotencyError `key_invalid` (400) for a header that was sent with different values
 * @throws InvalidOptionsError for a name that no header can have
 */
export function fromHeader(name: string): KeySource {
  if (!headerName.safeParse(name).success)
    throw new InvalidOptionsError('fromHeader()', [
      `${shown(name)} is not a header name, such as 'X-GitHub-Delivery'`,
    ]);
  const lowerCase = name.toLowerCase();
  return named(`fromHeader('${name}')`, (context) => {
    const request = rawRequest(requestOf(context));
    let key: string | undefined;
    for (const line of valuesOf(request, lowerCase)) key = agreed(key, line);
    return key;
  });
}

/** Where the call is forgotten, as in `key: fromBody`, it is a whole request, with its credentials. */
function shown(given: unknown): string {
  return typeof given === 'string' ? inspect(given) : `a value of type ${typeof given}`;
}

/** The name shows where options are listed. */
function named(name: string, source: KeySource): KeySource {
  return Object.defineProperty(source, 'name', { value: name });
}

/** Own properties only: each object has a `constructor`. */
function valueAt(body: unknown, steps: readonly string[]): unknown {
  let value = body;
  for (const step of steps) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return undefined;
    value = (value as Readonly<Record<string, unknown>>)[step];
  }
  return value;
}

function keyText(value: unknown, path: string): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'string') return value;
  // Beyond 2^53, several numbers are parsed as one.
  if (typeof value === 'bigint' || (typeof value === 'number' && Number.isSafeInteger(value)))
    return String(value);
  throw invalidKey(`\`${path}\` of the body is neither a text nor a whole number below 2^53`);
}
