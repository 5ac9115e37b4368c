import { setTimeout as delay } from 'node:timers/promises';
import type { Instance } from '../rig/instance';
import type { Mode, Ruling } from '../rig/link';
import type { Rig } from '../rig/rig';
import { withRedis } from '../rig/stores';
import type { Chance } from './chance';

/** One fault of a schedule; all times in ms. */
export interface Step {
  /** From the start of the run. */
  readonly at: number;
  readonly lasts: number;
  readonly fault: string;
  readonly inject: (rig: Rig) => Promise<void>;
}

/** How faults follow each other: after a fault there is a rest, in which the system finds itself again. */
const REST = [100, 1_500] as const;

/** Faults that follow each other: one begins when its time has come and the one before is over. */
export type Lane = readonly Step[];

/**
 * A schedule of two lanes, drawn from the seed before anything runs: one harms the servers, one a single process or
 * its links. So at most two faults act at a time, and they never undo each other.
 */
export function schedule(chance: Chance, duration: number): readonly Lane[] {
  return [harmServers, harmOne].map((draw) => {
    const steps: Step[] = [];
    for (let at = chance.whole(...REST); at < duration;) {
      const step = { at, ...draw(chance) };
      steps.push(step);
      at += step.lasts + chance.whole(...REST);
    }
    return steps;
  });
}

/** Injects the steps of all lanes; resolves when the last fault is over. What has no time left is left out. */
export async function unleash(
  rig: Rig,
  lanes: readonly Lane[],
  duration: number,
  tell: (line: string) => void,
): Promise<void> {
  const start = performance.now();
  const elapsed = (): number => performance.now() - start;
  await Promise.all(
    lanes.map(async (steps) => {
      for (const { at, lasts, fault, inject } of steps) {
        await delay(Math.max(0, at - elapsed()));
        if (elapsed() >= duration) return;
        tell(`${elapsed().toFixed(0).padStart(7)} ms  ${fault}, ${lasts} ms`);
        await inject(rig);
      }
    }),
  );
}

function harmServers(chance: Chance): Omit<Step, 'at'> {
  const lasts = chance.whole(50, 3_000);
  switch (
    chance.one(['freeze redis', 'kill redis', 'empty redis', 'freeze postgres', 'kill postgres', 'end backends']) // prettier-ignore
  ) {
    case 'freeze redis':
      return { fault: 'redis frozen', lasts, inject: (rig) => frozen(rig, rig.redis, lasts) };
    case 'kill redis':
      return {
        fault: 'redis killed, then started empty',
        lasts,
        inject: (rig) => killed(rig, rig.redis, lasts),
      };
    case 'empty redis':
      return { fault: 'redis emptied', lasts: 0, inject: emptied };
    case 'freeze postgres':
      return { fault: 'postgres frozen', lasts, inject: (rig) => frozen(rig, rig.postgres, lasts) };
    case 'kill postgres':
      return {
        fault: 'postgres killed, then started',
        lasts,
        inject: (rig) => killed(rig, rig.postgres, lasts),
      };
    case 'end backends':
      return { fault: 'all sessions of postgres ended', lasts: 0, inject: (rig) => rig.endSessions() };
  }
}

const STATEMENTS = {
  postgres: [
    ...(['claim', 'complete', 'release', 'renew', 'take-over', 'read', 'forget'] as const),
    ...(['begin', 'effect', 'commit'] as const),
  ],
  redis: ['mget', 'hint', 'outcome', 'pending', 'removed'],
} as const;
const RULINGS: Readonly<Record<'request' | 'reply', readonly [Ruling, ...Ruling[]]>> = {
  request: ['lose', 'reset', 'cut', 'cut-before', 'hold'],
  reply: ['lose', 'reset', 'cut', 'hold'],
};
const MODES: readonly [Mode, ...Mode[]] = ['refuse', 'reset', 'black-hole', 'drop-replies', 'delay', 'cut'];

function harmOne(chance: Chance): Omit<Step, 'at'> {
  const index = chance.whole(0, 2);
  const lasts = chance.whole(50, 4_000);
  const store = chance.one(['postgres', 'redis']);
  switch (
    chance.one([
      ...(['link', 'statement', 'statement', 'freeze', 'shut down'] as const),
      ...(['kill', 'kill', 'kill at', 'kill at', 'kill at'] as const),
    ])
  ) {
    case 'link': {
      const mode = chance.one(MODES);
      const delayMs = chance.whole(5, 400);
      return {
        fault: `${store} link of ${index}: ${mode}${mode === 'delay' ? ` of ${delayMs} ms` : ''}`,
        lasts,
        inject: async (rig) => {
          const link = rig.instance(index)[store];
          await link.set(mode, delayMs);
          await delay(lasts);
          await link.set('pass');
        },
      };
    }
    case 'statement': {
      const statement = chance.one(STATEMENTS[store]);
      const side = chance.one(['request', 'reply']);
      const ruling = chance.one(RULINGS[side]);
      return {
        fault: `${store} link of ${index}: ${ruling} ${side} of ${statement}`,
        lasts,
        inject: async (rig) => {
          const link = rig.instance(index)[store];
          const watch = link.watch(statement, side, ruling, { times: 3 });
          await delay(lasts);
          watch.resume();
          link.unwatch();
          await link.set('pass'); // connections that have lost something are of no more use
        },
      };
    }
    case 'freeze': {
      const frozenFor = 2 * lasts; // up to more than two leases
      return {
        fault: `process ${index} frozen`,
        lasts: frozenFor,
        inject: async (rig) => {
          rig.instance(index).freeze();
          await delay(frozenFor);
          rig.instance(index).thaw();
        },
      };
    }
    case 'kill':
      return { fault: `process ${index} killed`, lasts, inject: (rig) => again(rig.instance(index), lasts, (one) => { one.kill(); }) }; // prettier-ignore
    case 'kill at': {
      const statement = chance.one(STATEMENTS[store]);
      const side = chance.one(['request', 'reply']);
      return {
        fault: `process ${index} killed at the ${side} of ${store}'s ${statement}`,
        lasts,
        inject: (rig) =>
          again(rig.instance(index), lasts, (one) => {
            one[store].watch(statement, side, 'reset', { act: () => { one.kill(); } }); // prettier-ignore
          }),
      };
    }
    case 'shut down':
      return { fault: `process ${index} shut down`, lasts, inject: (rig) => again(rig.instance(index), lasts, (one) => one.shutDown()) }; // prettier-ignore
  }
}

async function frozen(rig: Rig, server: Rig['redis'], lasts: number): Promise<void> {
  rig.freeze(server);
  await delay(lasts);
  rig.thaw(server);
}

async function killed(rig: Rig, server: Rig['redis'], lasts: number): Promise<void> {
  await rig.kill(server);
  await delay(lasts);
  await rig.restart(server);
}

async function emptied(rig: Rig): Promise<void> {
  rig.faults.happened('redis emptied');
  await withRedis(rig.redis.port, (redis) => redis.flushall());
}

/** Whatever became of the process, it runs again afterwards. */
async function again(
  instance: Instance,
  lasts: number,
  harm: (instance: Instance) => unknown,
): Promise<void> {
  await harm(instance);
  await delay(lasts);
  instance.postgres.unwatch();
  instance.redis.unwatch();
  await instance.gone();
  if (!instance.running) await instance.start();
}
