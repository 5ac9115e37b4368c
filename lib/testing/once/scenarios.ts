import type { IdempotencyTesting } from '../idempotency-testing';
import { isToRetry, type Attempt } from './attempt';

/** How a client comes to send its request again. */
export type Scenario = 'twice' | 'at once' | 'after a lost reply' | 'after a crash';

export const SCENARIOS: readonly Scenario[] = ['twice', 'at once', 'after a lost reply', 'after a crash'];

/** The tries that the client made, those that something has gone wrong for left out. */
export interface Tries {
  readonly answered: readonly Attempt[];
  /** What the client made of the fault: no answer, and so a retry. */
  readonly failed: Attempt | undefined;
}

/**
 * Sends a request once and `duplicates` times more, as a client does in this case.
 * @param send one try
 */
export function play(
  scenario: Scenario,
  send: () => Promise<Attempt>,
  duplicates: number,
  testing: IdempotencyTesting,
): Promise<Tries> {
  switch (scenario) {
    case 'twice':
      return inTurn(send, duplicates + 1);
    case 'at once':
      return atOnce(send, duplicates + 1);
    case 'after a lost reply':
      testing.next('reply lost');
      return afterFault(send, duplicates);
    case 'after a crash':
      testing.next('owner crashed');
      return afterFault(send, duplicates);
  }
}

async function inTurn(send: () => Promise<Attempt>, times: number): Promise<Tries> {
  const answered: Attempt[] = [];
  for (let i = 0; i < times; i++) answered.push(await send());
  return { answered, failed: undefined };
}

/** Those that were told to come again do so once the others have their answers. */
async function atOnce(send: () => Promise<Attempt>, times: number): Promise<Tries> {
  const answered = await Promise.all(Array.from({ length: times }, send));
  const settled = answered.filter((each) => !isToRetry(each));
  for (let i = settled.length; i < times; i++) settled.push(await send());
  return { answered: settled, failed: undefined };
}

async function afterFault(send: () => Promise<Attempt>, duplicates: number): Promise<Tries> {
  const failed = await send();
  const { answered } = await inTurn(send, duplicates);
  return { answered, failed };
}
