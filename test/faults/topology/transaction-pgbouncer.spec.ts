import { randomUUID } from 'node:crypto';
import { startPgBouncer, type RunningServer } from '../../../servers';
import { Rig } from '../rig/rig';
import { clean } from './clean';

const ROUTE = { route: 'transaction' } as const;

describe('transactions behind pgbouncer in transaction mode', () => {
  let rig: Rig;
  let pgbouncer: RunningServer;
  beforeEach(async () => {
    // Enough for all of them to queue on a busy machine.
    rig = await Rig.start({ options: { waitTimeout: '15s', postgres: { timeout: '5s' } } });
    // Fewer than the three processes would have open at once.
    pgbouncer = await startPgBouncer(rig.postgres.port, { poolSize: 5 });
    for (const { postgres } of rig.instances) postgres.redirect(pgbouncer.port);
  });
  afterEach(async () => {
    await rig.stop();
    await pgbouncer.stop();
  });

  it('50 keys, each sent to all processes, each have one effect', async () => {
    const keys = Array.from({ length: 50 }, () => randomUUID());
    const seen = await Promise.all(
      keys.flatMap((key) => rig.instances.map((one) => rig.send(one, key, { ...ROUTE, takes: 20 }))),
    );
    expect(new Set(seen.map(({ status }) => status))).toEqual(new Set([201]));
    const { keys: asked, executions, effects } = clean(await rig.verdict());
    expect([asked, executions]).toEqual([50, 50]);
    expect(effects).toEqual({ keys: 50, effects: 50, doubled: 0, lost: 0 });
  });

  it('200 duplicates of one key over three processes have one effect', async () => {
    const key = randomUUID();
    const seen = await Promise.all(
      Array.from({ length: 200 }, (_, i) => rig.send(rig.instance(i % 3), key, { ...ROUTE, takes: 100 })),
    );
    expect(new Set(seen.map(({ status }) => status))).toEqual(new Set([201]));
    expect(clean(await rig.verdict()).effects).toEqual({ keys: 1, effects: 1, doubled: 0, lost: 0 });
    expect(rig.executions(key)).toHaveLength(1);
  });

  it.each(['SIGSTOP', 'SIGKILL'] as const)('a %s of it in the handler leaves one effect', async (signal) => {
    const key = randomUUID();
    const owner = rig.instance(0);
    const written = owner.postgres.watch('effect', 'reply').reached;
    const first = rig.send(owner, key, { ...ROUTE, hold: true });
    await owner.handling(key);
    await written;
    rig.faults.begin('postgres pooler gone');
    pgbouncer.kill(signal);
    owner.finish(key);
    expect((await first).status).toBe(503);
    if (signal === 'SIGSTOP') pgbouncer.kill('SIGCONT');
    else await pgbouncer.restart();
    rig.faults.end('postgres pooler gone');
    await rig.sendUntilAnswered(rig.instance(1), key, ROUTE);
    expect(clean(await rig.verdict()).effects).toEqual({ keys: 1, effects: 1, doubled: 0, lost: 0 });
  });
});
