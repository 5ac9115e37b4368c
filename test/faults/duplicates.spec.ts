import { randomUUID } from 'node:crypto';
import { Rig } from './rig/rig';

describe('200 duplicates of one key over three processes', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start();
  });
  afterAll(() => rig.stop());

  it('run the handler once, and get one answer', async () => {
    const key = randomUUID();
    const seen = await Promise.all(
      Array.from({ length: 200 }, (_, i) => rig.send(rig.instance(i % 3), key, { takes: 100 })),
    );
    expect(new Set(seen.map(({ status }) => status))).toEqual(new Set([201]));
    expect(rig.executions(key)).toHaveLength(1);
    expect((await rig.verdict()).violations).toEqual([]);
  });
});
