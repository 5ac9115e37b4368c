import fc from 'fast-check';
import { roundedNumbers } from '../../../../lib/http/request/fingerprint/rounded-numbers';
import { json, runs } from '../../../support/arbitraries';

describe('the numbers of a JSON text that JSON.parse rounds', () => {
  it.each<[string, string[]]>([
    ['[1, -2.5, 1e21, 0.1]', []],
    ['[9007199254740993]', ['9007199254740993']],
    ['[9007199254740992]', []],
    ['{"a":-12345678901234567890}', ['-12345678901234567890']],
    ['[1e400, 1e-400]', ['1e400', '1e-400']],
    ['[0.0000000000000000, 0e999]', []],
    ['["9007199254740993", "\\"9007199254740993"]', []],
    ['{"9007199254740993\\\\":9007199254740993}', ['9007199254740993']],
    ['["9007199254740993', []],
  ])('of %s are %j', (text, expected) => {
    expect(roundedNumbers(text)).toEqual(expected);
  });

  it('are none in what JSON.stringify writes: it spells each double so that it is read again', () => {
    fc.assert(
      fc.property(json, (value) => {
        expect(roundedNumbers(JSON.stringify(value))).toEqual([]);
      }),
      runs(500),
    );
  });

  it('are all whole numbers that no double holds', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 2n ** 53n, max: 2n ** 80n }), (number) => {
        const isExact = BigInt(Number(number)) === number && String(Number(number)) === String(number);
        expect(roundedNumbers(`[${number}]`)).toEqual(isExact ? [] : [String(number)]);
      }),
      runs(500),
    );
  });
});
