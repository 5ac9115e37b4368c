import { Rig } from './rig/rig';
import { Traffic } from './topology/traffic';

const ROUTE = { route: 'changing' } as const;

describe('a route is changed from one mode to the other under load, process by process', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start();
  });
  afterAll(() => rig.stop());

  it('from leases to transactions and back: each key has one effect and one answer', async () => {
    const traffic = new Traffic(rig, ROUTE);
    await traffic.goesOn();
    for (const mode of ['transaction', 'lease'] as const) {
      for (const instance of rig.instances) {
        await instance.shutDown();
        instance.changed = mode;
        await instance.start();
        await traffic.goesOn();
      }
    }
    await traffic.stop();
    const { violations, effects } = await rig.verdict();
    expect(violations).toEqual([]);
    const executions = rig.executions();
    expect(executions.filter(({ transactional }) => transactional).length).toBeGreaterThan(20);
    expect(executions.filter(({ transactional }) => !transactional).length).toBeGreaterThan(20);
    expect(effects).toMatchObject({ doubled: 0, lost: 0 });

    // No fault but orderly ends: so it holds for the keys of both modes.
    const rows = new Map<string, number>();
    for (const { key } of await rig.effects()) rows.set(key, (rows.get(key) ?? 0) + 1);
    const answered = rig.sightings.filter(({ nonce }) => nonce !== undefined);
    expect(answered.length).toBeGreaterThan(100);
    for (const { key } of answered) expect([key, rows.get(key)]).toEqual([key, 1]);
  });
});
