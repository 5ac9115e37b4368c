import { setTimeout as delay } from 'node:timers/promises';
import type { Rig } from '../rig/rig';
import { Chance } from './chance';

/**
 * An operator who deletes records, of keys that no other client has: they are sent, several times at once, forgotten
 * or purged by one of the processes, and sent again to all of them.
 */
export async function operator(rig: Rig, seed: number, until: AbortSignal): Promise<void> {
  const timeUp = (): boolean => until.aborted;
  for (let count = 0; !timeUp(); count++) {
    const chance = new Chance(seed + count);
    const key = `forgotten-${count}`;
    const route = chance.one(['retry', 'reject', 'transaction']);
    for (let rounds = chance.whole(1, 3); rounds > 0 && !timeUp(); rounds--) {
      const send = { route, takes: chance.whole(0, 100), size: chance.whole(0, 500) } as const;
      const sent = Array.from({ length: chance.whole(1, 3) }, () =>
        rig.send(rig.instance(chance.whole(0, 2)), key, send),
      );
      // At times while they are under way.
      if (chance.happens(70)) await Promise.all(sent);
      await rig.forget(rig.instance(chance.whole(0, 2)), key, { route, by: chance.one(['forget', 'purge']) });
      await Promise.all([...sent, ...rig.instances.map((instance) => rig.send(instance, key, send))]);
    }
    await delay(chance.whole(0, 100));
  }
}
