import { setTimeout as delay } from 'node:timers/promises';
import type { Rig, Route, Send } from '../rig/rig';
import { Chance } from './chance';

/** What a client wants done, under one key, however often it has to ask. */
interface Intent {
  readonly key: string;
  readonly send: Send & { readonly route: Route };
}

const RECENT = 50;

/**
 * One client of many. It sends its intents to any of the processes, some at once to several of them; asks again where
 * it got no final answer; leaves early at times; and comes back to old keys.
 */
export async function client(rig: Rig, seed: number, name: string, until: AbortSignal): Promise<void> {
  const recent: Intent[] = [];
  const timeUp = (): boolean => until.aborted;
  for (let count = 0; !timeUp(); count++) {
    const chance = new Chance(seed + count); // however many draws the last one took, this one is the same again
    const old = chance.happens(25) ? recent[chance.whole(0, RECENT - 1)] : undefined;
    const intent = old ?? newIntent(chance, `${name}-${count}`);
    recent[count % RECENT] = intent;
    for (let tries = chance.whole(1, 3); tries > 0 && !timeUp(); tries--) {
      const answers = await Promise.all(
        Array.from({ length: chance.happens(30) ? chance.whole(2, 5) : 1 }, () =>
          rig.send(rig.instance(chance.whole(0, 2)), intent.key, {
            ...intent.send,
            ...(chance.happens(10) ? { patience: chance.whole(5, 500) } : {}),
          }),
        ),
      );
      if (answers.some(({ nonce }) => nonce !== undefined)) break;
    }
    await delay(chance.whole(0, 60));
  }
}

function newIntent(chance: Chance, key: string): Intent {
  return {
    key,
    send: {
      route: chance.one(['retry', 'reject', 'transaction', 'transaction']),
      effect: chance.one(['first', 'last']),
      takes: chance.happens(90) ? chance.whole(0, 150) : chance.whole(150, 4_000),
      size: chance.happens(90) ? chance.whole(0, 500) : chance.whole(500, 100_000),
      ...(chance.happens(8) ? { fails: 500 } : {}),
    },
  };
}
