import type { Configuration } from './configuration';
import { atRest, type Property } from './properties';
import { initial, key, type State } from './state';
import { stepsFrom } from './steps';

export interface Counterexample {
  readonly property: Property;
  /** The steps that lead to it, of which there are no fewer. */
  readonly trace: readonly string[];
}

export interface Result {
  readonly states: number;
  readonly transitions: number;
  /** Steps to the state that is furthest away. */
  readonly depth: number;
  readonly seconds: number;
  /** The shortest for each property that does not hold. */
  readonly counterexamples: readonly Counterexample[];
  /** False if the search was stopped by `most`. */
  readonly complete: boolean;
}

export interface Limits {
  /** Stop after so many states. */
  readonly most?: number;
  /** Stop at the first counterexample of one of these. @default none: all states are visited */
  readonly until?: readonly Property[];
}

/**
 * Visits every state that the configuration can reach, breadth first, so that a counterexample is as short as can be.
 * Of a visited state only a 64-bit hash is kept, and by which step it was first reached.
 */
export function search(c: Configuration, { most = Infinity, until = [] }: Limits = {}): Result {
  const startedAt = performance.now();
  const visited = new Visited();
  const parents = new Numbers();
  const ordinals = new Numbers();
  const ways = new Numbers(); // from, to, from, to, …: the steps without a fault
  const resting = new Set<number>();
  const found = new Map<Property, { from: number; label: string }>();

  const root = initial(c.processes, c.faults);
  let level: { index: number; state: State }[] = [{ index: visited.add(key(root)), state: root }];
  parents.push(-1);
  ordinals.push(0);
  let transitions = 0;
  let depth = 0;
  let stopped = false;

  while (level.length > 0 && !stopped) {
    const next: typeof level = [];
    for (const { index, state } of level) {
      const { list, cut } = stepsFrom(state, c);
      if (atRest(state) || cut || (state.arrived === c.requests && state.row?.lapsed)) resting.add(index);
      for (const [ordinal, { label, fault, next: reached, broken }] of list.entries()) {
        transitions++;
        for (const property of broken) if (!found.has(property)) found.set(property, { from: index, label });
        if (broken.length > 0) continue;
        const count = visited.size;
        const to = visited.add(key(reached));
        if (!fault && to !== index) ways.push(index, to);
        if (to < count) continue;
        parents.push(index);
        ordinals.push(ordinal);
        next.push({ index: to, state: reached });
      }
      stopped = visited.size >= most || until.some((property) => found.has(property));
      if (stopped) break;
    }
    if (next.length > 0) depth++;
    level = next;
  }

  const traceTo = (index: number): string[] => {
    const path: number[] = [];
    for (let at = index; at > 0; at = parents.at(at)) path.push(ordinals.at(at));
    let state = root;
    return path.reverse().map((ordinal) => {
      const step = stepsFrom(state, c).list[ordinal]!;
      state = step.next;
      return step.label;
    });
  };
  const counterexamples: Counterexample[] = [...found].map(([property, { from, label }]) => ({
    property,
    trace: [...traceTo(from), label],
  }));
  if (!stopped && found.size === 0 && c.onOrphan === 'retry') {
    const stuck = firstStuck(visited.size, ways, resting);
    if (stuck !== undefined) counterexamples.push({ property: 'no key is stuck', trace: traceTo(stuck) });
  }
  return {
    states: visited.size,
    transitions,
    depth,
    seconds: (performance.now() - startedAt) / 1000,
    counterexamples,
    complete: !stopped,
  };
}

/** The first state from which no way leads to rest, found by walking all ways backwards from there. */
function firstStuck(states: number, ways: Numbers, resting: ReadonlySet<number>): number | undefined {
  const starts = new Int32Array(states + 1);
  for (let i = 1; i < ways.length; i += 2) starts[ways.at(i) + 1]!++;
  for (let i = 0; i < states; i++) starts[i + 1]! += starts[i]!;
  const filled = starts.slice();
  const origins = new Int32Array(ways.length / 2);
  for (let i = 0; i < ways.length; i += 2) origins[filled[ways.at(i + 1)]!++] = ways.at(i);

  const reaches = new Uint8Array(states);
  const open = [...resting];
  for (const state of open) reaches[state] = 1;
  for (let state = open.pop(); state !== undefined; state = open.pop()) {
    for (let i = starts[state]!; i < starts[state + 1]!; i++) {
      const origin = origins[i]!;
      if (reaches[origin]) continue;
      reaches[origin] = 1;
      open.push(origin);
    }
  }
  const stuck = reaches.indexOf(0);
  return stuck < 0 ? undefined : stuck;
}

/** A growing list of 32-bit numbers. */
class Numbers {
  private values = new Int32Array(1 << 16);
  length = 0;

  push(...added: readonly number[]): void {
    for (const value of added) {
      if (this.length === this.values.length) {
        const grown = new Int32Array(this.length * 2);
        grown.set(this.values);
        this.values = grown;
      }
      this.values[this.length++] = value;
    }
  }

  at(i: number): number {
    return this.values[i]!;
  }
}

/** The hashes of the states seen so far, numbered in the order in which they were: open addressing, two words each. */
class Visited {
  private slots = new Int32Array(1 << 17).fill(-1);
  private readonly high = new Numbers();
  private readonly low = new Numbers();

  get size(): number {
    return this.high.length;
  }

  /** The number of this state; a new one if it has not been seen. */
  add(state: string): number {
    const [high, low] = hash(state);
    const slot = this.find(high, low);
    const known = this.slots[slot]!;
    if (known >= 0) return known;
    this.slots[slot] = this.size;
    this.high.push(high);
    this.low.push(low);
    if (this.size * 2 > this.slots.length) this.grow();
    return this.size - 1;
  }

  private find(high: number, low: number): number {
    const mask = this.slots.length - 1;
    for (let slot = low & mask; ; slot = (slot + 1) & mask) {
      const known = this.slots[slot]!;
      if (known < 0 || (this.high.at(known) === high && this.low.at(known) === low)) return slot;
    }
  }

  private grow(): void {
    this.slots = new Int32Array(this.slots.length * 2).fill(-1);
    for (let i = 0; i < this.size; i++) this.slots[this.find(this.high.at(i), this.low.at(i))] = i;
  }
}

// In Jest's sandbox each look at a global is slow.
const { imul } = Math;

/** Two independent 32-bit hashes (multiply and mix, with the finisher of MurmurHash3). */
function hash(text: string): [number, number] {
  let a = 0x9e3779b9;
  let b = 0x85ebca6b;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    a = imul(a ^ code, 0x9e3779b1);
    b = imul(b ^ code, 0x5f356495);
    a ^= a >>> 15;
    b ^= b >>> 13;
  }
  return [mixed(a ^ imul(b, 31)), mixed(b)];
}

function mixed(h: number): number {
  let x = imul(h ^ (h >>> 16), 0x85ebca6b);
  x = imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) | 0;
}
