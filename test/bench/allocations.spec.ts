import { Allocations } from '../../bench/allocations';

/** Those that are dropped at once, and those that outlive collections. */
const dropped: unknown[] = [0];
let kept: unknown[] = [];

/** 100 slots of 8 bytes and their header (16), and the array that holds them (32). */
const ARRAY = 848;

function drop(count: number): void {
  for (let made = 0; made < count; made++) dropped[0] = filled(made);
}

function keep(count: number): void {
  kept = new Array<unknown>(count);
  for (let made = 0; made < count; made++) kept[made] = filled(made);
}

function filled(value: number): unknown[] {
  const array = new Array<unknown>(100);
  array[0] = value;
  return array;
}

/** The least of five: V8 may compile something beside the work, and its bytes lie on the same heap. */
function allocatedBy(work: () => void): number {
  const runs = Array.from({ length: 5 }, () => {
    const allocations = new Allocations();
    const before = allocations.read().bytes;
    work();
    return allocations.read().bytes - before;
  });
  return Math.min(...runs);
}

describe('counting what is allocated', () => {
  beforeAll(() => drop(10_000)); // compiled
  afterAll(() => (kept = []));

  it.each([2_000, 50_000, 500_000])('counts %d objects that are dropped at once', (count) => {
    const bytes = allocatedBy(() => drop(count));
    expect(bytes / (count * ARRAY)).toBeGreaterThan(0.97);
    expect(bytes / (count * ARRAY)).toBeLessThan(1.03);
  });

  it('counts an object that outlives collections once', () => {
    const count = 100_000;
    const bytes = allocatedBy(() => keep(count));
    expect(bytes / (count * (ARRAY + 8))).toBeGreaterThan(0.97);
    expect(bytes / (count * (ARRAY + 8))).toBeLessThan(1.03);
  });

  it('counts collections and the time that they take', () => {
    const allocations = new Allocations();
    const before = allocations.read().gcMs;
    drop(500_000);
    expect(allocations.read().gcMs).toBeGreaterThan(before);
  });
});
