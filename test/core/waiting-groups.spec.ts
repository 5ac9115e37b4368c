import fc from 'fast-check';
import { WaitingGroups, type WaitingGroup } from '../../lib/core/waiting-groups';
import { runs } from '../support/arbitraries';

const member = (bytes = 0) => ({ request: {}, bytes, fail: () => undefined });

describe('the waiting requests of a process, by key', () => {
  it('know the key with the most of them, and with the most bytes, as a full count does', () => {
    const steps = fc.array(fc.record({ key: fc.nat(3), bytes: fc.nat(9), leaves: fc.boolean() }));
    fc.assert(
      fc.property(steps, (given) => {
        const groups = new WaitingGroups(() => undefined);
        const waiting: { group: WaitingGroup; one: ReturnType<typeof member> }[] = [];
        for (const { key, bytes, leaves } of given) {
          const gone = leaves ? waiting.shift() : undefined;
          if (gone) gone.group.remove(gone.one);
          else {
            const [group, one] = [groups.of(String(key)), member(bytes)];
            group.add(one);
            waiting.push({ group, one });
          }
          if (waiting.length === 0) continue;
          const present = new Set(waiting.map(({ group }) => group));
          for (const measure of ['size', 'bytes'] as const) {
            const most = Math.max(...[...present].map((group) => group[measure]));
            expect(groups.noisiest(measure)[measure]).toBe(most);
          }
        }
        expect(groups.requests).toBe(waiting.length);
        expect(groups.bytes).toBe(waiting.reduce((sum, { one }) => sum + one.bytes, 0));
      }),
      runs(300),
    );
  });

  it('keep no key that nothing waits for', () => {
    const groups = new WaitingGroups(() => undefined);
    const [group, one] = [groups.of('a'), member()];
    group.add(one);
    expect(groups.of('a')).toBe(group);
    group.remove(one);
    expect(groups.of('a')).not.toBe(group);
    expect(() => groups.noisiest('size')).toThrow(RangeError);
    expect(() => group.newest).toThrow(RangeError);
  });

  it('count a request that leaves twice once, and name the one that came last', () => {
    const changes: [number, number][] = [];
    const group = new WaitingGroups((...change) => changes.push(change)).of('a');
    const [first, second] = [member(5), member(7)];
    group.add(first);
    group.add(second);
    expect(group.newest).toBe(second);
    group.remove(second);
    group.remove(second);
    expect(group.newest).toBe(first);
    expect(changes).toEqual([
      [1, 5],
      [1, 7],
      [-1, -7],
    ]);
  });
});
