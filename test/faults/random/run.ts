import { Rig, type Report } from '../rig/rig';
import { Chance } from './chance';
import { schedule, unleash } from './nemesis';
import { operator } from './operator';
import { client } from './traffic';

export interface RandomRun {
  readonly minutes: number;
  /** The same seed draws the same schedule and the same intents again. */
  readonly seed: number;
  /** Told of every fault as it is injected. */
  readonly tell: (line: string) => void;
}

const CLIENTS = 8;
const HOUR = 3_600_000;

/** Faults and traffic for a time, both drawn from the seed; then the oracle's verdict. */
export async function randomRun({ minutes, seed, tell }: RandomRun): Promise<Report> {
  const duration = minutes * 60_000;
  const rig = await Rig.start({ clockSkew: [0, HOUR, -HOUR] });
  try {
    const lanes = schedule(new Chance(seed), duration);
    const timeUp = AbortSignal.timeout(duration);
    const clients = Array.from({ length: CLIENTS }, (_, i) =>
      client(rig, seed + (i + 1) * 1_000_003, `client-${i}`, timeUp),
    );
    const deleting = operator(rig, seed + 500_009, timeUp);
    await Promise.all([unleash(rig, lanes, duration, tell), deleting, ...clients]);
    tell(`${duration.toFixed(0).padStart(7)} ms  the faults are over: every key is asked for again, twice`);
    return await rig.verdict();
  } finally {
    await rig.stop();
  }
}
