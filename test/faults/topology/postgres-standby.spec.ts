import { randomUUID } from 'node:crypto';
import { startSynchronousStandby, type RunningPostgres, type RunningStandby } from '../../../servers';
import { sql } from '../../support/database';
import { eventually } from '../../support/eventually';
import { Rig } from '../rig/rig';
import { recordsInPostgres } from '../rig/stores';
import { clean } from './clean';
import { Traffic } from './traffic';

describe('Postgres with a synchronous standby', () => {
  let rig: Rig;
  let primary: RunningPostgres;
  let standby: RunningStandby;
  beforeEach(async () => {
    rig = await Rig.start();
    primary = rig.postgres;
    standby = await startSynchronousStandby(primary);
  });
  afterEach(async () => {
    await rig.stop();
    await Promise.all([primary.stop(), standby.stop()]);
  });

  it('loses nothing that was answered when the primary dies under load, and runs nothing twice', async () => {
    const held = randomUUID();
    const owner = rig.instance(0);
    const first = rig.send(owner, held, { hold: true });
    await owner.handling(held);
    const traffic = new Traffic(rig);
    await traffic.goesOn();

    await rig.kill(primary);
    rig.failOverPostgres(standby);
    await standby.promote();
    await traffic.goesOn();
    await traffic.stop();
    owner.finish(held);
    expect(await first).toMatchObject({ status: 201 });

    const { keys, executions } = clean(await rig.verdict());
    expect(executions).toBe(keys);
  });

  it('refuses new keys while it can only be read, and replays known ones from Redis', async () => {
    const known = randomUUID();
    const { nonce } = await rig.send(rig.instance(0), known);
    await rig.kill(primary);
    rig.failOverPostgres(standby);

    const fresh = randomUUID();
    expect(await rig.send(rig.instance(1), fresh)).toMatchObject({
      status: 503,
      problem: 'store-unavailable',
    });
    expect(rig.executions(fresh)).toEqual([]);
    for (const instance of rig.instances) {
      expect(await rig.send(instance, known)).toMatchObject({ status: 201, nonce });
    }

    await standby.promote();
    expect(clean(await rig.verdict())).toMatchObject({ keys: 2, executions: 2 });
  });

  it('keeps an outcome that the standby has not confirmed until it is confirmed', async () => {
    const key = randomUUID();
    const owner = rig.instance(0);
    const first = rig.send(owner, key, { hold: true });
    await owner.handling(key);
    await rig.kill(standby);
    // The commit stands on the primary alone when its wait for the standby is given up, and is found there afterwards.
    let found = false;
    owner.postgres.watch('read', 'reply', 'pass', { act: () => (found = true) });
    owner.finish(key);
    const { status, nonce } = await first; // Redis alone has it
    expect(status).toBe(201);
    await eventually(() => {
      expect(found).toBe(true);
    });

    await rig.kill(primary);
    await rig.restart(standby);
    rig.failOverPostgres(standby);
    await standby.promote();
    await eventually(async () => {
      const recorded = await recordsInPostgres(rig.databaseUrl);
      expect(recorded.map((record) => record.nonce)).toEqual([nonce]);
    });
    expect(clean(await rig.verdict())).toMatchObject({ keys: 1, executions: 1 });
  });

  it('runs nothing for a claim that the standby has not confirmed', async () => {
    rig.freeze(standby);
    const key = randomUUID();
    expect(await rig.send(rig.instance(0), key)).toMatchObject({ status: 503 });
    expect(rig.executions(key)).toEqual([]);
    rig.thaw(standby);
    expect(clean(await rig.verdict())).toMatchObject({ keys: 1, executions: 1 });
  });
});

describe('Postgres whose synchronous standby is away, without Redis', () => {
  let rig: Rig;
  let primary: RunningPostgres;
  let standby: RunningStandby;
  beforeEach(async () => {
    rig = await Rig.start({ instances: ['postgres', 'postgres'] });
    primary = rig.postgres;
    standby = await startSynchronousStandby(primary);
  });
  afterEach(async () => {
    await rig.stop();
    await Promise.all([primary.stop(), standby.stop()]);
  });

  it('tells no caller of an outcome that the standby has not confirmed: it may be lost, and the handler run again', async () => {
    const key = randomUUID();
    const owner = rig.instance(0);
    const first = rig.send(owner, key, { hold: true });
    await owner.handling(key);
    rig.freeze(standby);
    // What waits in its socket would reach it yet: so nothing more is sent to it.
    await sql(primary.url, 'SELECT pg_terminate_backend(pid) FROM pg_stat_replication');
    owner.finish(key);
    expect(await first).toMatchObject({ status: 503, problem: 'outcome-not-recorded' });
    // Its statement was cancelled, so it is committed here, and can be read.
    await eventually(async () => expect(await recordsInPostgres(rig.databaseUrl)).toHaveLength(1));
    expect(await rig.send(rig.instance(1), key)).toMatchObject({ status: 503, nonce: undefined });

    owner.kill();
    await rig.kill(primary);
    rig.thaw(standby);
    rig.failOverPostgres(standby);
    await standby.promote();
    expect(clean(await rig.verdict())).toMatchObject({ keys: 1, executions: 2 });
  });
});
