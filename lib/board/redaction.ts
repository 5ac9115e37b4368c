import type { RecordDetails } from '../admin/idempotency-admin';
import type { HeaderList } from '../core/record';
import { kindOf } from '../http/request/caller/credential-headers';
import { SafeLogger } from '../observability/safe-logger';
import type { BoardOptions } from './board.options';
import { bytesOf, fitted } from './room';

export const HIDDEN = '(hidden)';

/** Of a body, which can be large. */
const MOST_CHARACTERS = 8_192;
const MOST_OF_A_VALUE = 512;
/** Bytes on the page. With the frame, the forms and the rest of the record they stay below 60 kB. */
const BYTES_OF_BODY = 24_000;
const BYTES_OF_HEADERS = 16_000;
const BYTES_OF_A_LINE = 64;

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
      headers: withinPage(outcome.headers.map(withoutCredential)),
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

/** As many lines as there is room for, and how many there is none for. */
function withinPage(headers: HeaderList): HeaderList {
  const lines = headers.flatMap(([name, value]) =>
    [value].flat().map((each) => [clipped(name, MOST_OF_A_VALUE), each] as const),
  );
  let left = BYTES_OF_HEADERS;
  const shown = lines.filter(([name, value]) => {
    left -= bytesOf(name) + bytesOf(value) + BYTES_OF_A_LINE;
    return left >= 0;
  });
  const others = lines.length - shown.length;
  return others > 0 ? [...shown, ['…', `(${others} more are not shown)`]] : shown;
}

function textOf(body: Buffer): string {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(body);
    return fitted(text, BYTES_OF_BODY, MOST_CHARACTERS).replace(UNSEEN, '\uFFFD');
  } catch {
    return `(${body.length} bytes, not text)`;
  }
}

function clipped(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length)}… (${text.length} characters)` : text;
}
