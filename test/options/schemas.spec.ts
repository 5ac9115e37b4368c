import {
  callback,
  credentialHeader,
  duration,
  headerName,
  httpUrl,
  integer,
  LONGEST_TIMER,
  namespaceName,
  oneOf,
} from '../../lib/options/schemas';

const accepts = (
  schema: { safeParse(value: unknown): { success: boolean } },
  values: readonly unknown[],
): boolean[] => values.map((value) => schema.safeParse(value).success);

describe('what an option may be', () => {
  it.each<[unknown, number | undefined]>([
    [250, 250],
    ['250ms', 250],
    ['1.5s', 1_500],
    ['24h', 86_400_000],
    [0.4, 0],
    ['', undefined],
    ['  ', undefined],
    ['soon', undefined],
    [NaN, undefined],
    [-1, undefined],
    ['25d', undefined],
    [Infinity, undefined],
  ])('is a duration: %p is %p ms', (value, ms) => {
    expect(duration(0, LONGEST_TIMER).safeParse(value).data).toBe(ms);
  });

  it('is a duration of 1,000 years at most, so that both stores know the time', () => {
    expect(accepts(duration(0), ['1000y', '1001y', Number.MAX_SAFE_INTEGER])).toEqual([true, false, false]);
  });

  it('is a whole number within its bounds', () => {
    expect(accepts(integer(1, 5), [1, 5, 0, 6, 1.5, '1', NaN])).toEqual([
      true,
      true,
      ...Array<boolean>(5).fill(false),
    ]);
  });

  it('is one of a list, and says which', () => {
    expect(oneOf('a', 'b').safeParse('c').error?.issues[0]?.message).toBe("one of 'a', 'b'");
  });

  it('is a header name, and no star alone among credentials', () => {
    expect(accepts(headerName, ['X-Key', 'x*', '*', 'X Key', '', 'é'])).toEqual([
      true,
      true,
      true,
      false,
      false,
      false,
    ]);
    expect(accepts(credentialHeader, ['X-*', '*', '**'])).toEqual([true, false, false]);
  });

  it('is a namespace that a log can print', () => {
    expect(
      accepts(namespaceName, ['orders', 'ö', 'a'.repeat(64), 'a'.repeat(65), '', 'a\nb', 'a\u202eb']),
    ).toEqual([true, true, true, false, false, false, false]);
  });

  it('is an absolute URL of the web', () => {
    expect(accepts(httpUrl, ['https://a.example/b', '/b', 'ftp://a.example', 'javascript:alert(1)'])).toEqual(
      [true, false, false, false],
    );
  });

  it('is a function', () => {
    expect(accepts(callback(), [() => 1, 'id', undefined])).toEqual([true, false, false]);
  });
});
