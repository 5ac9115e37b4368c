import { randomUUID } from 'node:crypto';
import { Rig } from './rig/rig';

describe('races between processes', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start();
  });
  afterAll(() => rig.stop());
  afterEach(async () => expect((await rig.verdict()).violations).toEqual([]));

  it('a failed handler’s release that comes late deletes no newer claim', async () => {
    const key = randomUUID();
    const [owner, other] = [rig.instance(0), rig.instance(1)];
    const late = owner.postgres.watch('release', 'request', 'hold', { times: 1_000 });
    const failing = rig.send(owner, key, { fails: 500 });
    await late.reached;
    const retry = rig.send(other, key, { hold: true }); // takes the orphan over, as the release has not come
    await other.handling(key);
    late.resume();
    await failing;
    other.finish(key);
    const { nonce } = await retry;
    expect((await rig.sendUntilAnswered(rig.instance(2), key)).nonce).toBe(nonce);
    expect(rig.executions(key).map(({ attempt }) => attempt)).toEqual([1, 2]);
  });

  it('one of many retries that wait for a handler which fails runs it once more', async () => {
    const key = randomUUID();
    const owner = rig.instance(0);
    const failing = rig.send(owner, key, { hold: true, fails: 500 });
    await owner.handling(key);
    const waiting = Array.from({ length: 20 }, (_, i) => rig.send(rig.instance(1 + (i % 2)), key));
    owner.finish(key);
    expect((await failing).status).toBe(500);
    const seen = await Promise.all(waiting);
    expect(new Set(seen.map(({ nonce }) => nonce)).size).toBe(1);
    expect(rig.executions(key)).toHaveLength(2);
  });

  it('renewals of which each reply is lost keep the lease, for three of them', async () => {
    const key = randomUUID();
    const [owner, other] = [rig.instance(0), rig.instance(1)];
    const lost = owner.postgres.watch('renew', 'reply', 'reset', { times: 1_000 });
    const first = rig.send(owner, key, { takes: 9_000 });
    await lost.reached;
    const second = await rig.sendUntilAnswered(other, key);
    expect(second.nonce).toBe((await first).nonce);
    expect(rig.executions(key)).toHaveLength(1);
  });

  it('an owner that alone is cut off from Postgres is taken over, and gives its client the other’s answer', async () => {
    const key = randomUUID();
    const [owner, other] = [rig.instance(0), rig.instance(1)];
    const first = rig.send(owner, key, { hold: true });
    await owner.handling(key);
    await owner.postgres.set('black-hole');
    const taken = await rig.sendUntilAnswered(other, key);
    await owner.postgres.set('pass');
    owner.finish(key);
    expect((await first).nonce).toBe(taken.nonce);
    expect(rig.executions(key).map(({ attempt }) => attempt)).toEqual([1, 2]);
  });

  it.each(['claim', 'complete'])(
    'a client that leaves while Postgres has the %s does not lose its answer',
    async (statement) => {
      const key = randomUUID();
      const owner = rig.instance(0);
      const held = owner.postgres.watch(statement, 'reply', 'hold');
      const left = rig.send(owner, key, { patience: 200 });
      await held.reached;
      expect((await left).status).toBeUndefined();
      held.resume();
      await rig.sendUntilAnswered(rig.instance(1), key);
      expect(rig.executions(key)).toHaveLength(1);
    },
  );
});

describe('a process is told to end (SIGTERM) while a request is under way', () => {
  let rig: Rig;
  beforeEach(async () => {
    rig = await Rig.start();
  });
  afterEach(() => rig.stop());

  it('lets the handler end, and records its outcome', async () => {
    const key = randomUUID();
    const owner = rig.instance(0);
    const first = rig.send(owner, key, { hold: true });
    await owner.handling(key);
    const ended = owner.shutDown();
    owner.finish(key);
    const { nonce } = await first;
    await ended;
    expect(nonce).toBeDefined();
    expect((await rig.sendUntilAnswered(rig.instance(1), key)).nonce).toBe(nonce);
    expect((await rig.verdict()).violations).toEqual([]);
  });

  it.each(['redis', 'postgres', 'both'] as const)(
    'and %s frozen: it ends anyway, and what a client saw stays',
    async (frozen) => {
      const key = randomUUID();
      const owner = rig.instance(0);
      const first = rig.send(owner, key, { hold: true });
      await owner.handling(key);
      if (frozen !== 'postgres') rig.freeze(rig.redis);
      if (frozen !== 'redis') rig.freeze(rig.postgres);
      const ended = owner.shutDown();
      owner.finish(key);
      const { nonce, problem } = await first;
      await ended;
      expect(problem ?? typeof nonce).toBe(frozen === 'both' ? 'outcome-not-recorded' : 'string');
      await rig.heal();
      const retry = await rig.sendUntilAnswered(rig.instance(1), key);
      if (nonce) expect(retry.nonce).toBe(nonce);
      expect((await rig.verdict()).violations).toEqual([]);
    },
  );
});
