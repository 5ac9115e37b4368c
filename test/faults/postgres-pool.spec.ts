import { randomUUID } from 'node:crypto';
import { Rig } from './rig/rig';

const MANY = 50;

describe('connections run out', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start();
  });
  afterAll(() => rig.stop());
  afterEach(async () => expect((await rig.verdict()).violations).toEqual([]));

  it('the application’s, held by its own handlers for longer than a lease: they keep their keys, and others are served', async () => {
    const owner = rig.instance(0);
    const keys = Array.from({ length: 10 }, () => randomUUID()); // as many as TypeORM's pool has
    const renewals = owner.postgres.watch('renew', 'reply', 'pass', { times: Infinity });
    const first = keys.map((key) => rig.send(owner, key, { hold: true, holdsConnection: true }));
    await Promise.all(keys.map((key) => owner.handling(key)));
    expect((await rig.send(owner, randomUUID())).status).toBe(201);
    await renewals.reached;
    const duplicates = keys.map((key) => rig.send(rig.instance(1), key)); // wait for longer than a lease
    const seen = await Promise.all(duplicates);
    expect(new Set(seen.map(({ problem }) => problem))).toEqual(new Set(['in-flight']));
    keys.forEach((key) => {
      owner.finish(key);
    });
    expect(new Set((await Promise.all(first)).map(({ status }) => status))).toEqual(new Set([201]));
    for (const key of keys) expect(rig.executions(key)).toHaveLength(1);
  });

  it('the module’s, busy with slow statements for 50 keys at once: heartbeats still go, so nothing is taken over', async () => {
    const owner = rig.instance(0);
    const keys = Array.from({ length: MANY }, () => randomUUID());
    const first = keys.map((key) => rig.send(owner, key, { hold: true }));
    await Promise.all(keys.map((key) => owner.handling(key)));
    await owner.postgres.set('delay', 20);
    const duplicates = Promise.all(keys.map((key) => rig.send(rig.instance(1), key)));
    let asking = true;
    void duplicates.then(() => (asking = false));
    const traffic = Array.from({ length: MANY }, async () => {
      while (asking) await rig.send(owner, randomUUID(), { route: 'reject' });
    });
    const seen = await duplicates; // for `waitTimeout`, which is longer than a lease
    await Promise.all(traffic);
    expect(new Set(seen.map(({ problem }) => problem))).toEqual(new Set(['in-flight']));
    keys.forEach((key) => {
      owner.finish(key);
    });
    await Promise.all(first);
    for (const key of keys) expect(rig.executions(key)).toHaveLength(1);
  });
});
