import { Readable } from 'node:stream';
import { isAnyArrayBuffer, isPromise } from 'node:util/types';
import type { HeaderList, Outcome } from '../core/record';
import type { HeaderFilter } from '../options/idempotency.options';
import { isRecorded } from '../outcome/recorded-headers';
import { isBodiless, isStatus, unsendable } from '../outcome/stored-outcome';
import { valueOutcome } from '../outcome/value-outcome';

const JSON_TYPE = 'application/json; charset=utf-8';
const NOTHING = Buffer.alloc(0);

/**
 * A response that an earlier system kept, as a retry gets it. Headers that belong to one connection or request, and a
 * length, are left out. Its size is not bounded: a client has seen it.
 * @throws TypeError if no response can be made of it
 */
export function legacyResponse(answer: unknown, keepsHeader: HeaderFilter): Outcome {
  if (typeof answer !== 'object' || answer === null || !('status' in answer))
    throw new TypeError(`A lookup gives { status, headers, body }, and not ${formOf(answer)}`);
  const { status, headers, body } = answer as { status: unknown; headers?: unknown; body?: unknown };
  if (!isStatus(status)) throw new TypeError('The status of a legacy response is not an HTTP status');
  const bytes = isBodiless(status) ? NOTHING : bytesOf(body);
  const lines = [...linesOf(headers, keepsHeader)];
  const hasType = lines.some(([name]) => name.toLowerCase() === 'content-type');
  if (isJson(body) && bytes.length > 0 && !hasType) lines.push(['Content-Type', JSON_TYPE]);
  const problem = unsendable({ status, headers: lines, body: bytes });
  if (problem !== undefined) throw new TypeError(`The legacy response cannot be sent: ${problem}`);
  return { kind: 'response', status, headers: lines, body: bytes };
}

/**
 * A value that an earlier system kept of work that is not an HTTP request.
 * @throws TypeError if it is none
 */
export function legacyValue(answer: unknown): Outcome {
  if (typeof answer !== 'object' || answer === null || !('value' in answer))
    throw new TypeError(`A lookup gives { value }, and not ${formOf(answer)}`);
  const outcome = valueOutcome(answer.value, Infinity);
  if (outcome.kind === 'tombstone') throw new TypeError('The legacy value has no JSON form');
  return outcome;
}

function isJson(body: unknown): boolean {
  return typeof body !== 'string' && !(body instanceof Uint8Array);
}

/** As Nest sends it: text and bytes as they are, nothing for null, anything else as JSON. */
function bytesOf(body: unknown): Buffer {
  if (body === undefined || body === null) return NOTHING;
  if (typeof body === 'string' || body instanceof Uint8Array) return Buffer.from(body);
  // They have a JSON form, which is not what was sent.
  if (isPromise(body) || isAnyArrayBuffer(body) || body instanceof ReadableStream || body instanceof Readable)
    throw new TypeError(
      'The body of a legacy response is a promise, a stream or an ArrayBuffer: give what it holds',
    );
  const text = JSON.stringify(body) as string | undefined;
  if (text === undefined) throw new TypeError('The body of a legacy response has no JSON form');
  return Buffer.from(text);
}

function* linesOf(headers: unknown, keepsHeader: HeaderFilter): Generator<HeaderList[number]> {
  if (headers === undefined || headers === null) return;
  // The entries of a list, a Map or Headers of fetch are not properties: they would all be missing in the replay.
  if (typeof headers !== 'object' || Symbol.iterator in headers)
    throw new TypeError('The headers of a legacy response are an object of names and values');
  for (const [name, given] of Object.entries(headers as Record<string, unknown>)) {
    if (given === undefined || given === null) continue;
    const value = valueOf(name, given);
    const lower = name.toLowerCase();
    if (lower !== 'content-length' && isRecorded(lower) && keepsHeader(lower, value)) yield [name, value];
  }
}

function valueOf(name: string, given: unknown): string | readonly string[] {
  if (typeof given === 'string') return given;
  if (typeof given === 'number') return String(given);
  if (Array.isArray(given) && given.every((each) => typeof each === 'string')) return given;
  throw new TypeError(`The header ${name} of a legacy response is not text, a number or a list of texts`);
}

/** What was given, without its values: they may be private. */
function formOf(answer: unknown): string {
  if (typeof answer !== 'object' || answer === null) return `a ${typeof answer}`;
  return `an object with ${Object.keys(answer).join(', ') || 'nothing in it'}`;
}
