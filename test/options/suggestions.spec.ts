import { suggestionsFor } from '../../lib/options/suggestions';

const KNOWN = ['header', 'key', 'required', 'waitTimeout', 'maxBodySize', 'maxWaiters', 'maxWaitersTotal'];

describe('what a misspelt name means', () => {
  it.each<[string, string[]]>([
    ['headers', ['header']],
    ['haeder', ['header']],
    ['Key', ['key']],
    ['keey', ['key']],
    ['requierd', ['required']],
    ['waitTimeOut', ['waitTimeout']],
    ['maxWaiter', ['maxWaiters']],
    ['max_body_size', ['maxBodySize']],
    ['xey', ['key']],
    ['kye', ['key']],
  ])('%s: %j', (misspelt, meant) => expect(suggestionsFor(misspelt, KNOWN)).toEqual(meant));

  it.each(['', 'ttl', 'foo', 'waitUntil', 'maximumBodySize', 'x'.repeat(1000)])(
    'is not guessed: %s',
    (name) => expect(suggestionsFor(name, KNOWN)).toEqual([]),
  );

  it('may be several names', () => {
    expect(suggestionsFor('maxSiz', ['maxSize', 'maxSide', 'minSize'])).toEqual(['maxSize']);
    expect(suggestionsFor('maxSixe', ['maxSize', 'maxSide', 'minSize'])).toEqual(['maxSize', 'maxSide']);
  });

  it('is none where no name is known', () => expect(suggestionsFor('key', [])).toEqual([]));
});
