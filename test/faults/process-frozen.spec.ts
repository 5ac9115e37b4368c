import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Rig } from './rig/rig';

const THREE_LEASES = 9_000;

describe('a process is frozen for three leases (SIGSTOP), and wakes', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start();
  });
  afterAll(() => rig.stop());
  afterEach(async () => expect((await rig.verdict()).violations).toEqual([]));

  it('in its handler, retry: another one takes over, and the first client gets that one’s answer', async () => {
    const key = randomUUID();
    const [owner, other] = [rig.instance(0), rig.instance(1)];
    const first = rig.send(owner, key, { hold: true });
    await owner.handling(key);
    owner.freeze();
    owner.finish(key); // read once it wakes
    const taken = await rig.sendUntilAnswered(other, key);
    owner.thaw();
    expect((await first).nonce).toBe(taken.nonce);
    expect(rig.executions(key).map(({ attempt }) => attempt)).toEqual([1, 2]);
  });

  it('in its handler, reject: others are told that the outcome is unknown, until it wakes and its own is recorded', async () => {
    const key = randomUUID();
    const [owner, other] = [rig.instance(0), rig.instance(1)];
    const first = rig.send(owner, key, { route: 'reject', hold: true });
    await owner.handling(key);
    owner.freeze();
    await rig.sendUntil(other, key, { route: 'reject' }, ({ problem }) => problem === 'outcome-unknown');
    owner.thaw();
    owner.finish(key);
    const { nonce } = await first;
    expect((await rig.sendUntilAnswered(other, key, { route: 'reject' })).nonce).toBe(nonce);
    expect(rig.executions(key)).toHaveLength(1);
  });

  it.each(['retry', 'reject'] as const)(
    'between the reply to its claim and its handler, %s: it does not run under a lease that may have lapsed',
    async (route) => {
      const key = randomUUID();
      const owner = rig.instance(0);
      const reply = owner.postgres.watch('claim', 'reply', 'hold');
      const first = rig.send(owner, key, { route });
      await reply.reached;
      owner.freeze();
      reply.resume();
      await delay(THREE_LEASES);
      owner.thaw();
      await first;
      await rig.sendUntilAnswered(rig.instance(1), key, { route });
      expect(rig.executions(key)).toHaveLength(1);
    },
  );

  it.each(['request', 'reply'] as const)(
    'at the %s of its completion: there is one answer, or 503',
    async (side) => {
      const key = randomUUID();
      const [owner, other] = [rig.instance(0), rig.instance(1)];
      const held = owner.postgres.watch('complete', side, 'hold');
      const first = rig.send(owner, key);
      await held.reached;
      owner.freeze();
      const seen = await rig.sendUntilAnswered(other, key);
      held.resume();
      owner.thaw();
      const { nonce, problem } = await first;
      expect([seen.nonce, 'outcome-not-recorded']).toContain(nonce ?? problem);
      expect(rig.executions(key)).toHaveLength(side === 'request' ? 2 : 1);
    },
  );
});

describe('the wall clocks of the processes are an hour apart', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start({ clockSkew: [0, 3_600_000, -3_600_000] });
  });
  afterAll(() => rig.stop());
  afterEach(async () => expect((await rig.verdict()).violations).toEqual([]));

  it.each([0, 1, 2])(
    'no process takes over what instance %i is at work on, for two leases',
    async (index) => {
      const key = randomUUID();
      const owner = rig.instance(index);
      const first = rig.send(owner, key, { takes: 6_000 });
      await owner.handling(key);
      const others = await Promise.all(
        rig.instances.filter((one) => one !== owner).map((one) => rig.sendUntilAnswered(one, key)),
      );
      const { nonce } = await first;
      expect(others.map((one) => one.nonce)).toEqual([nonce, nonce]);
      expect(rig.executions(key)).toHaveLength(1);
    },
  );

  it.each([0, 1, 2])('what instance %i leaves behind is taken over by one', async (index) => {
    const key = randomUUID();
    const owner = rig.instance(index);
    const lost = rig.send(owner, key, { hold: true });
    await owner.handling(key);
    owner.kill();
    await lost;
    const others = rig.instances.filter((one) => one !== owner);
    const seen = await Promise.all(others.map((one) => rig.sendUntilAnswered(one, key)));
    expect(new Set(seen.map(({ nonce }) => nonce)).size).toBe(1);
    expect(rig.executions(key).map(({ attempt }) => attempt)).toEqual([1, 2]);
  });
});
