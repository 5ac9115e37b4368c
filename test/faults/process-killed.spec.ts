import { randomUUID } from 'node:crypto';
import type { Instance } from './rig/instance';
import { Rig, type Route, type Send } from './rig/rig';

interface Point {
  readonly when: string;
  /** Kills the instance at that very moment of the request that is sent next. */
  arm(one: Instance): Promise<void>;
  /** Whether it asks Redis before it claims. */
  readonly readsFirst?: true;
  readonly send?: Send;
  /** Executions in all once another process has been asked again, by policy. */
  readonly executions: Readonly<Record<'retry' | 'reject', number>>;
  /** What a retry gets under `reject`. @default the answer */
  readonly rejected?: 'outcome-unknown';
}

const at = (store: 'postgres' | 'redis', statement: string, side: 'request' | 'reply') => (one: Instance) =>
  one[store].watch(statement, side, 'reset', { act: () => one.kill() }).reached; // prettier-ignore
const once = { retry: 1, reject: 1 };

/** The labelled points of one request's path, in their order. */
const POINTS: readonly Point[] = [
  { when: 'as it asks Redis', arm: at('redis', 'mget', 'request'), readsFirst: true, executions: once },
  { when: 'before its claim reaches Postgres', arm: at('postgres', 'claim', 'request'), executions: once },
  // No handler ran, but that cannot be known: the claim was committed, and its owner is gone.
  {
    when: 'when its claim is committed, before it hears so',
    arm: at('postgres', 'claim', 'reply'),
    executions: { retry: 1, reject: 0 },
    rejected: 'outcome-unknown',
  },
  {
    when: 'before its completion reaches Postgres',
    arm: at('postgres', 'complete', 'request'),
    executions: { retry: 2, reject: 1 },
    rejected: 'outcome-unknown',
  },
  { when: 'when its completion is committed, before it hears so', arm: at('postgres', 'complete', 'reply'), executions: once }, // prettier-ignore
  { when: 'before Redis hears of its outcome', arm: at('redis', 'outcome', 'request'), executions: once },
  { when: 'when Redis has its outcome', arm: at('redis', 'outcome', 'reply'), executions: once },
  {
    when: 'before its renewal reaches Postgres',
    arm: at('postgres', 'renew', 'request'),
    send: { takes: 60_000 },
    executions: { retry: 2, reject: 1 },
    rejected: 'outcome-unknown',
  },
  {
    when: 'before the release of a failed handler reaches Postgres',
    arm: at('postgres', 'release', 'request'),
    send: { fails: 500 },
    executions: { retry: 2, reject: 1 },
    rejected: 'outcome-unknown',
  },
  {
    when: 'when that release is committed, before it hears so',
    arm: at('postgres', 'release', 'reply'),
    send: { fails: 500 },
    executions: { retry: 2, reject: 2 },
  },
];

describe('a process is killed (SIGKILL)', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start();
  });
  afterAll(() => rig.stop());
  afterEach(async () => expect((await rig.verdict()).violations).toEqual([]));

  describe.each(POINTS)('$when', ({ arm, readsFirst, send, executions, rejected }) => {
    it.each(['retry', 'reject'] as const)(
      '%s: another process knows, or finds out, and runs it only if it may',
      async (route) => {
        const key = randomUUID();
        const [owner, other] = [rig.instance(0), rig.instance(1)];
        if (readsFirst) await rig.expectRetries(owner);
        const killed = arm(owner);
        await rig.send(owner, key, { route, ...send });
        await killed;
        if (route === 'reject' && rejected) {
          await rig.sendUntil(other, key, { route }, ({ problem }) => problem === rejected);
        } else {
          await rig.sendUntilAnswered(other, key, { route });
        }
        expect(rig.executions(key)).toHaveLength(executions[route]);
      },
    );
  });

  it.each<[Route, number]>([
    ['retry', 2],
    ['reject', 1],
  ])(
    'while its handler runs, %s: those that waited in two other processes see one takeover at most',
    async (route, runs) => {
      const key = randomUUID();
      const [owner, ...others] = rig.instances;
      const lost = rig.send(owner!, key, { route, hold: true });
      await owner!.handling(key);
      const waiting = Promise.all(
        Array.from({ length: 20 }, (_, i) => rig.send(others[i % 2]!, key, { route, takes: 50 })),
      );
      owner!.kill();
      expect((await lost).status).toBeUndefined();
      const seen = new Set((await waiting).map(({ problem, nonce }) => problem ?? nonce));
      expect(rig.executions(key)).toHaveLength(runs);
      expect([...seen]).toEqual([route === 'reject' ? 'outcome-unknown' : rig.executions(key)[1]?.nonce]);
    },
  );

  describe('as it takes an orphan over', () => {
    it.each(['request', 'reply'] as const)(
      'at the %s: the third process runs the handler, as a later attempt',
      async (side) => {
        const key = randomUUID();
        const [owner, second, third] = [rig.instance(0), rig.instance(1), rig.instance(2)];
        const lost = rig.send(owner, key, { hold: true });
        await owner.handling(key);
        owner.kill();
        await lost;
        const killed = second.postgres.watch('take-over', side, 'reset', { act: () => second.kill() }).reached; // prettier-ignore
        const lostToo = rig.send(second, key);
        await killed;
        await lostToo;
        await rig.sendUntilAnswered(third, key);
        expect(rig.executions(key).map(({ attempt }) => attempt)).toEqual([1, side === 'request' ? 2 : 3]);
      },
    );
  });
});
