import { Logger } from '@nestjs/common';
import fc from 'fast-check';
import { keyOf } from '../../../lib/http/request/key';
import { runs, text } from '../../support/arbitraries';
import { headOf } from '../../support/header-lines';
import { contextOf, route, settled } from '../../support/request-context';

const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

describe('a key', () => {
  beforeAll(() => {
    Logger.overrideLogger(false);
  });

  it('from the `key` option is taken as it is, or refused: a text as `key_invalid`, anything else as an error of the application', async () => {
    const answers = fc.oneof(
      text,
      text.map((each) => each.repeat(100)),
      fc.anything(),
    );
    await fc.assert(
      fc.asyncProperty(answers, async (answer) => {
        const key = () => answer as string;
        const valid =
          typeof answer === 'string' &&
          answer.length > 0 &&
          answer.length <= 255 &&
          answer.isWellFormed() &&
          !CONTROL.test(answer);
        const refused =
          typeof answer === 'string'
            ? { code: 'key_invalid' }
            : { message: expect.stringContaining('must return a string') as string };
        const wanted = valid || answer === undefined ? { value: answer } : refused;
        expect(await settled(keyOf(contextOf({}), route({ key })))).toEqual(wanted);
      }),
      runs(500),
    );
  });

  it('in a header is taken as it is, read as a structured-field string, or refused as `key_invalid`', async () => {
    const byte = fc.integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code));
    const values = fc.oneof(
      fc.string({ unit: byte }),
      fc.string({ unit: fc.constantFrom('"', '\\', ',', ';', ' ', 'a', '=', '?', ':', '(', '\xe9') }),
      fc.string({ unit: 'grapheme-ascii' }).map((inner) => `"${inner}"`),
      fc.constantFrom('a', 'b', '"a"', '"b"', '""', 'x'.repeat(255), 'x'.repeat(256)),
    );
    const headers = (distinct: string[]) =>
      contextOf(headOf(distinct.map((value) => ['Idempotency-Key', value])));
    await fc.assert(
      fc.asyncProperty(fc.array(values, { minLength: 1, maxLength: 3 }), async (sent) => {
        const answer = await settled(keyOf(headers(sent), route()));
        if (!('value' in answer)) {
          expect(answer).toEqual({ code: 'key_invalid' });
          return;
        }
        // What is accepted has one meaning: sent alone, bare or quoted, each of the values names the same key.
        const key = answer.value!;
        expect(key.length).toBeLessThanOrEqual(255);
        expect(key).toMatch(/^[\x20-\x7e]+$/);
        const quoted = `"${key.replace(/["\\]/g, '\\$&')}"`;
        for (const value of [...sent, quoted]) {
          expect(await settled(keyOf(headers([value]), route()))).toEqual({ value: key });
        }
      }),
      runs(500),
    );
  });
});
