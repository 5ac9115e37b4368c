import { randomUUID } from 'node:crypto';
import { Controller, ForbiddenException, Post } from '@nestjs/common';
import { Idempotent, type IdempotencyOptions } from '../../lib';
import { type Platform, type TestApp } from '../support/app';
import { appOnServers } from '../support/app-on-servers';
import { gate } from '../support/gate';
import { comparable, isReplay, type Answer } from '../support/http';
import { KeptLog } from '../support/log';

let handled = 0;
let answer: () => unknown;

/** What the test lets an option answer, as JavaScript lets it whatever the types say. */
const asked = (): never => answer() as never;

@Controller()
class OptionsController {
  @Post('key')
  @Idempotent({ key: asked })
  key(): number {
    return ++handled;
  }

  @Post('scope')
  @Idempotent({ scope: asked })
  scope(): number {
    return ++handled;
  }

  @Post('fingerprint')
  @Idempotent({ fingerprint: asked })
  fingerprint(): number {
    return ++handled;
  }

  @Post('record')
  @Idempotent({ record: asked })
  record(): number {
    return ++handled;
  }

  @Post('replayHeaders')
  @Idempotent({ replayHeaders: asked })
  replayHeaders(): number {
    return ++handled;
  }
}

const failures: [string, () => unknown][] = [
  [
    'throws',
    () => {
      throw new Error('an option of the application failed');
    },
  ],
  [
    'throws nothing at all',
    () => {
      throw undefined; // eslint-disable-line @typescript-eslint/only-throw-error
    },
  ],
  ['rejects', () => Promise.reject(new Error('an option of the application failed'))],
];

/** No texts, and nothing that reads alike for different requests. */
const strangers: [string, unknown][] = [
  ['null', null],
  ['NaN', NaN],
  ['Infinity', Infinity],
  ['an object', { toString: () => 'all alike' }],
  ['an array', ['a', {}]],
  ['an empty array', []],
  ['an array of arrays', [['a']]],
  ['a symbol', Symbol('a')],
  ['a function', () => 'a'],
  ['true', true],
  ['a buffer', Buffer.from('a')],
  ['a String object', new String('a')],
];

describe.each<Platform>(['express', 'fastify'])('the answer of an option on %s', (platform) => {
  let app: TestApp;
  const log = new KeptLog();

  const servers = appOnServers({
    platform,
    controllers: [OptionsController],
    configure: (nest) => nest.useLogger(log),
  });
  beforeAll(() => ({ app } = servers));
  beforeEach(() => {
    handled = 0;
    log.lines.length = 0;
  });

  const twice = async (option: keyof IdempotencyOptions, given: () => unknown): Promise<[Answer, Answer]> => {
    answer = given;
    const headers = { 'idempotency-key': randomUUID() };
    return [await app.call(`/${option}`, { headers }), await app.call(`/${option}`, { headers })];
  };

  describe.each(['key', 'scope', 'fingerprint'] as const)('`%s`', (option) => {
    it.each(failures)('that %s is a 500, and no handler runs', async (_, given) => {
      for (const { status } of await twice(option, given)) expect(status).toBe(500);
      expect(handled).toBe(0);
      expect(log.lines.join()).toContain(`The \`${option}\` option of OptionsController.${option} failed`);
    });

    it('that is an answer to the sender reaches it, and is no error of the application', async () => {
      const refusal = (): never => {
        throw new ForbiddenException('not this one');
      };
      for (const { status, text } of await twice(option, refusal)) {
        expect(status).toBe(403);
        expect(text).toContain('not this one');
      }
      expect([handled, log.lines]).toEqual([0, []]);
    });

    it.each(strangers)('that is %s is refused with a reason, and no handler runs', async (_, stranger) => {
      for (const later of [() => stranger, () => Promise.resolve(stranger)]) {
        for (const { status, text } of await twice(option, later)) {
          expect(status).toBe(500);
          expect(text).not.toContain('option'); // it is no business of the sender
        }
      }
      expect(handled).toBe(0);
      expect(log.lines.join()).toContain(`The \`${option}\` option of OptionsController.${option} failed`);
      expect(log.lines.join()).toContain(`\`${option}\` option must return`);
    });

    it('that has not come lets no handler run before it comes', async () => {
      const held = gate();
      answer = () => held.pass().then(() => randomUUID());
      const pending = app.call(`/${option}`, { headers: { 'idempotency-key': randomUUID() } });
      await held.reached();
      expect(handled).toBe(0);
      held.open();
      expect(await pending).toMatchObject({ status: 201, text: '1' });
    });
  });

  it.each(['scope', 'fingerprint'] as const)('`%s` may be as long as it likes', async (option) => {
    const [first, second] = await twice(option, () => 'x'.repeat(1_000_000));
    expect(comparable(second)).toEqual(comparable(first));
    expect([first.status, isReplay(second), handled]).toEqual([201, true, 1]);
  });

  it('`key` that is longer than `maxKeyLength` is refused', async () => {
    for (const { status } of await twice('key', () => 'x'.repeat(1_000_000))) expect(status).toBe(400);
    expect(handled).toBe(0);
  });

  it('`key` that is empty is refused as a key of the sender', async () => {
    for (const { status, text } of await twice('key', () => '')) {
      expect(status).toBe(400);
      expect(text).toContain('it is empty');
    }
    expect([handled, log.lines]).toEqual([0, []]);
  });

  it('`key` that is undefined is no key, and the handler runs unprotected', async () => {
    const [first, second] = await twice('key', () => undefined);
    expect([first.text, second.text]).toEqual(['1', '2']);
  });

  it.each(failures)('`record` that %s leaves the response recorded', async (_, given) => {
    const [first, second] = await twice('record', given);
    expect(comparable(second)).toEqual(comparable(first));
    expect([first.status, isReplay(second), handled]).toEqual([201, true, 1]);
    expect(log.lines.join()).toContain('`record` option failed');
    expect(log.lines.join()).toContain('OptionsController.record');
  });

  it('`record` that answers later is no answer, so the response is recorded', async () => {
    const [first, second] = await twice('record', () => Promise.resolve(false));
    expect([first.text, second.text]).toEqual(['1', '1']);
    expect(log.lines.join()).toContain('OptionsController.record has to answer at once');
  });

  it.each([...failures, ['answers later', () => Promise.resolve(true)]] as [string, () => unknown][])(
    '`replayHeaders` that %s leaves the response unstored, and no handler runs again',
    async (_, given) => {
      const [first, second] = await twice('replayHeaders', given);
      expect([first.status, second.status, handled]).toEqual([201, 409, 1]);
      expect(log.lines.join()).toContain('OptionsController.replayHeaders');
    },
  );
});
