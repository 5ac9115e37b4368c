import { Readable } from 'node:stream';
import { canonical } from '../../../../lib/http/request/fingerprint/canonical';
import { isStream, spellOther } from '../../../../lib/http/request/fingerprint/other-kinds';
import { NotComparableError } from '../../../../lib/http/request/fingerprint/spelling';

const spelled = (value: object): string => spellOther(value, canonical);
const form = (...fields: [string, string][]): FormData => {
  const made = new FormData();
  for (const [name, value] of fields) made.append(name, value);
  return made;
};

class Hidden {
  readonly #secret = 1;
  matches(other: number): boolean {
    return this.#secret === other;
  }
}

describe('a value that is no plain data', () => {
  it.each<[string, object, object]>([
    [
      'a map in another order',
      new Map([
        ['a', 1],
        ['b', 2],
      ]),
      new Map([
        ['b', 2],
        ['a', 1],
      ]),
    ],
    ['a set in another order', new Set([1, 2]), new Set([2, 1])],
    ['fields in another order', form(['a', '1'], ['b', '2']), form(['b', '2'], ['a', '1'])],
    ['a boxed number', new Number(1), new Number(1)],
    ['an equal date', new Date(5), new Date(5)],
    ['a buffer in a larger one', Buffer.from('xab').subarray(1), Buffer.from('ab')],
  ])('is spelled alike for %s', (_, a, b) => {
    expect(spelled(a)).toBe(spelled(b));
  });

  it.each<[string, object, object]>([
    ['fields of one name in another order', form(['a', '1'], ['a', '2']), form(['a', '2'], ['a', '1'])],
    ['a map and a set', new Map(), new Set()],
    ['bytes of another kind', new Uint8Array([1]), new Int8Array([1])],
    ['a buffer and its array', new Uint8Array([1]).buffer, new Uint8Array([1])],
    ['another date', new Date(5), new Date(6)],
    ['another flag', /a/g, /a/i],
    ['fields and a search', form(['a', '1']), new Map([['a', '1']])],
  ])('is spelled otherwise for %s', (_, a, b) => {
    expect(spelled(a)).not.toBe(spelled(b));
  });

  it('is spelled by its toJSON() where it has one of use', () => {
    class Money {
      constructor(private readonly cents: number) {}
      toJSON(): unknown {
        return this.cents;
      }
    }
    expect(spelled(new Money(1))).toBe(spelled(new Money(1)));
    expect(spelled(new Money(1))).not.toBe(spelled(new Money(2)));
    const itself = Object.assign(new Hidden(), { toJSON: (): object => itself });
    expect(() => spelled(itself)).toThrow(NotComparableError);
  });

  it.each<[string, object]>([
    ['an instance of a class, whose private fields cannot be seen', new Hidden()],
    ['a Blob, whose bytes are not in memory', new Blob(['a'])],
    ['an error', new Error('a')],
  ])('is refused: %s', (_, value) => {
    expect(() => spelled(value)).toThrow(/Set the `fingerprint` option/);
  });

  it('is one for all streams, which nothing has read', () => {
    const [node, web] = [Readable.from(['a']), new Blob(['b']).stream()];
    expect([node, web, {}, null, 'pipe'].map(isStream)).toEqual([true, true, false, false, false]);
    expect(spelled(node)).toBe(spelled(web));
  });
});
