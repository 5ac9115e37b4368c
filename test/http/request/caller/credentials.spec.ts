import fc from 'fast-check';
import { plainDigest } from '../../../../lib/core/digest';
import { credentialsOf, digestOf as keyedDigestOf } from '../../../../lib/http/request/caller/credentials';
import { runs } from '../../../support/arbitraries';
import { found, headOf, RULES, type Lines } from '../../../support/header-lines';

const digestOf = (lines: Lines): string => keyedDigestOf(found(lines).lasting, plainDigest);

describe('credentials', () => {
  const name = fc.constantFrom('Authorization', 'X-Api-Key', 'apikey', 'X-User-Id', 'Cookie', 'X-Auth-Token');
  const value = fc.string({
    unit: fc.constantFrom('a', 'b', '=', ';', ',', '"', ' ', '|'),
    minLength: 1,
    maxLength: 5,
  });
  const lines = fc.array(fc.tuple(name, value), { minLength: 1, maxLength: 5 });

  it('are the same in whatever order headers and cookies come, and in whatever case headers are named', () => {
    fc.assert(
      fc.property(lines, fc.nat(), (sent, turn) => {
        const at = turn % sent.length;
        // Not the values of one name: Node keeps the first.
        const turned = [...sent.slice(at), ...sent.slice(0, at)].map(
          ([each, given]) => [each.toUpperCase(), given] as const,
        );
        expect(digestOf(turned)).toBe(digestOf(sent));
      }),
      runs(500),
    );
  });

  it('are others if any of them is another, also one that is repeated', () => {
    fc.assert(
      fc.property(lines, fc.nat(), value, (sent, pick, to) => {
        const at = pick % sent.length;
        const other = sent.map(([each, given], i) => [each, i === at ? to : given] as const);
        expect(digestOf(other) === digestOf(sent)).toBe(meaning(other) === meaning(sent));
      }),
      runs(1_000),
    );
  });

  it('never hide each other: a key that all share does not hide a session', () => {
    const shared = [
      ['X-Api-Key', 'site'],
      ['Authorization', 'Basic c2l0ZQ=='],
    ] as const;
    expect(digestOf([...shared, ['Cookie', 'sid=1']])).not.toBe(digestOf([...shared, ['Cookie', 'sid=2']]));
  });

  it('are what middleware has made of them', () => {
    const sent = headOf([['Authorization', 'Bearer a']]);
    const changed = { ...sent, headers: { authorization: 'Bearer b', 'x-user-id': '7' } };
    expect(credentialsOf(changed, RULES).lasting).toEqual([
      ['authorization', 'Bearer b'],
      ['x-user-id', '7'],
    ]);
  });

  /** What they say, by a rule that shares nothing with the code under test. */
  function meaning(sent: Lines): string {
    const said = sent.flatMap(([each, given]) => {
      if (each !== 'Cookie') return given === '' ? [] : [`${each.toLowerCase()}:${given}`];
      const cookies = given.split(';').map((part) => part.trim());
      return cookies.filter((part) => part !== '').map((part) => `cookie:${part}`);
    });
    return JSON.stringify(said.sort());
  }
});
