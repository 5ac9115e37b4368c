import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';

/** Everything random of a run, from its seed. */
export class Chance {
  private readonly generator;

  constructor(seed: number) {
    this.generator = xoroshiro128plus(seed);
  }

  /** From `least` to `most`, both included. */
  whole(least: number, most: number): number {
    return uniformInt(this.generator, least, most);
  }

  /** True in `percent` of a hundred cases. */
  happens(percent: number): boolean {
    return this.whole(1, 100) <= percent;
  }

  one<const T>(list: readonly [T, ...T[]]): T {
    return list[this.whole(0, list.length - 1)] ?? list[0];
  }
}
