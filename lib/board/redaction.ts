import type { RecordDetails } from '../admin/idempotency-admin';
import type { HeaderList } from '../core/record';
import { kindOf } from '../http/request/caller/credential-headers';
import { SafeLogger } from '../observability/safe-logger';
import type { BoardOptions } from './board.options';

export const HIDDEN = '(hidden)';

/** Of a body, which can be large. */
const MOST_CHARACTERS = 8_192;
const MOST_HEADERS = 40;
const MOST_OF_A_VALUE = 512;

/** A response as the board may show it. */
export interface ShownResponse {
  readonly headers: HeaderList;
  /** Undefined where it is not to be shown. */
  readonly body: string | undefined;
}

export interface ShownRecord {
  readonly record: RecordDetails;
  /** Undefined where there is none, or the option `redact` failed. */
  readonly response: ShownResponse | undefined;
  readonly failed: boolean;
}

/** Control characters, and those that turn text around; lines and tabs stay. */
const UNSEEN = /(?![\n\r\t])[\p{Cc}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

const logger = new SafeLogger('Idempotency');

/** What of a record its reader may see. */
export async function shownOf(
  details: RecordDetails,
  { redact, showBodies }: BoardOptions,
): Promise<ShownRecord> {
  try {
    const record = redact ? await redact(details) : details;
    const { outcome } = record;
    if (outcome?.kind !== 'response') return { record, response: undefined, failed: false };
    const response = {
      headers: outcome.headers.slice(0, MOST_HEADERS).map(withoutCredential),
      body: showBodies ? textOf(outcome.body) : undefined,
    };
    return { record, response, failed: false };
  } catch (error) {
    logger.error('The option `redact` of the board failed, so no response is shown', error);
    return { record: { ...details, outcome: undefined }, response: undefined, failed: true };
  }
}

function withoutCredential([name, value]: HeaderList[number]): HeaderList[number] {
  const lower = name.toLowerCase();
  if (kindOf(lower) !== 'other' || /cookie|authenticat/.test(lower)) return [name, HIDDEN];
  return [name, [value].flat().map((each) => clipped(each, MOST_OF_A_VALUE))];
}

function textOf(body: Buffer): string {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(body);
    return clipped(text, MOST_CHARACTERS).replace(UNSEEN, '\uFFFD');
  } catch {
    return `(${body.length} bytes, not text)`;
  }
}

function clipped(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length)}… (${text.length} characters)` : text;
}
