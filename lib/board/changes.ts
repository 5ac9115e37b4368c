import type { IdempotencyAdmin } from '../admin/idempotency-admin';
import type { Change } from '../core/audit';
import { userOf, requestOf } from '../http/platform';
import { InvalidOptionsError } from '../options/validate';
import { headersIn, type Resolution } from '../outcome/resolution';
import type { Visit } from './access.guard';
import type { BoardOptions } from './board.options';

export const ACTIONS = ['resolve', 'retry', 'forget'] as const;

export type Action = (typeof ACTIONS)[number];

export function isAction(text: string | null): text is Action {
  return ACTIONS.some((action) => action === text);
}

/**
 * Makes the change that a form asks for. False if there was nothing to change.
 * @throws InvalidOptionsError for what the form must not say; those of IdempotencyAdmin
 */
export async function change(
  admin: IdempotencyAdmin,
  action: Action,
  hash: string,
  form: URLSearchParams,
  by: string,
): Promise<boolean> {
  const reason = form.get('reason')?.trim() ?? '';
  if (reason === '' || reason.length > 1_000)
    throw refused('the reason is missing, or longer than 1,000 characters');
  const why: Change = { by, reason };
  switch (action) {
    case 'resolve':
      return admin.resolve(hash, outcomeIn(form), why);
    case 'retry':
      return admin.retry(hash, why);
    case 'forget':
      return admin.forget(hash, why);
  }
}

/**
 * Who makes it.
 * @throws InvalidOptionsError if the option `actor` gives no text
 */
export async function actorOf({ context }: Visit, { actor }: BoardOptions): Promise<string> {
  const by: unknown = actor ? await actor(context) : idOf(userOf(requestOf(context)));
  if (typeof by === 'string' && by.trim() !== '') return by;
  throw new InvalidOptionsError('IdempotencyBoardModule', [
    'the option "actor" gave no text, so the audit could not say who makes the change',
  ]);
}

function idOf(user: unknown): string {
  const { id, sub, userId } = (typeof user === 'object' && user ? user : {}) as Record<string, unknown>;
  const found = [id, sub, userId].find((each) => typeof each === 'string' || typeof each === 'number');
  return found === undefined ? 'unknown (board)' : String(found);
}

/** Browsers send each end of a line as two characters. */
function outcomeIn(form: URLSearchParams): Exclude<Resolution, 'retry'> {
  const text = (name: string): string => (form.get(name) ?? '').replaceAll('\r\n', '\n');
  if (form.has('value')) return { value: jsonIn(text('value')) };
  const lines = text('headers')
    .split('\n')
    .filter((line) => line.trim() !== '');
  return { status: Number(form.get('status')), headers: headersIn(lines), body: text('body') };
}

function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw refused('the value is not JSON');
  }
}

function refused(problem: string): InvalidOptionsError {
  return new InvalidOptionsError('Nothing was changed', [problem]);
}
