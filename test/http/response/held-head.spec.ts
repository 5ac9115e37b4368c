import { randomUUID } from 'node:crypto';
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { Body, Controller, Post, Res } from '@nestjs/common';
import fc from 'fast-check';
import { Idempotent } from '../../../lib';
import { startPostgres, type RunningPostgres } from '../../../servers';
import { startApp, type Platform, type TestApp } from '../../support/app';
import { runs } from '../../support/arbitraries';
import { bytesOf, isReplayed, Wire, type WireResponse } from '../../support/wire';
import { raw, type AnyResponse } from '../../e2e/responses/runs';

type Value = string | number | string[] | null;
type Pair = [name: string, value: Value];

/** One call of a writer. Null stands for undefined, which JSON lacks. */
type Step =
  | { readonly call: 'setHeader' | 'appendHeader'; readonly pair: Pair }
  | { readonly call: 'setHeaders'; readonly form: 'map' | 'headers'; readonly pairs: Pair[] }
  | { readonly call: 'removeHeader'; readonly name: string }
  | {
      readonly call: 'writeHead';
      readonly form: 'object' | 'flat' | 'pairs' | 'odd' | 'none';
      readonly reason: string | null;
      readonly pairs: Pair[];
    };

let handled = 0;

const valueOf = (value: Value): string => (value ?? undefined) as string;

function writeHead(response: ServerResponse, { form, reason, pairs }: Step & { call: 'writeHead' }): void {
  const given = pairs.map(([name, value]): [string, string] => [name, valueOf(value)]);
  const headers = {
    object: Object.fromEntries(given),
    flat: given.flat(1),
    pairs: given,
    odd: [...given.flat(1), 'X-Odd'],
    none: undefined,
  }[form] as OutgoingHttpHeaders | undefined;
  if (reason === null) response.writeHead(202, headers);
  else response.writeHead(202, reason, headers);
}

function take(response: ServerResponse, step: Step): void {
  switch (step.call) {
    case 'setHeader':
    case 'appendHeader':
      response[step.call](step.pair[0], valueOf(step.pair[1]));
      return;
    case 'setHeaders': {
      const given = step.pairs.map(([name, value]): [string, string] => [name, valueOf(value)]);
      response.setHeaders(step.form === 'map' ? new Map(given) : new Headers(given));
      return;
    }
    case 'removeHeader':
      response.removeHeader(step.name);
      return;
    case 'writeHead':
      writeHead(response, step);
  }
}

@Controller()
@Idempotent()
class HeadsController {
  @Post('write')
  write(@Body() steps: Step[], @Res() response: AnyResponse): void {
    handled += 1;
    for (const step of steps) take(raw(response), step);
    raw(response).end('written');
  }
}

const name = fc.constantFrom('X-A', 'x-a', 'X-B', 'X-b', 'Cache-Control', 'Content-Type', 'Link');
const text = fc.stringMatching(/^[a-z0-9 ,;="]{0,8}$/).map((value) => value.trim());
const value: fc.Arbitrary<Value> = fc.oneof(
  { arbitrary: text, weight: 6 },
  { arbitrary: fc.integer(), weight: 2 },
  { arbitrary: fc.array(text, { maxLength: 3 }), weight: 2 },
  { arbitrary: fc.constant(null), weight: 1 },
);
const pairs = fc.array(
  fc.tuple(
    fc.oneof({ arbitrary: name, weight: 12 }, { arbitrary: fc.constantFrom('', 'X A'), weight: 1 }),
    value,
  ),
  { maxLength: 5 },
);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    call: fc.constantFrom('setHeader' as const, 'appendHeader' as const),
    pair: fc.tuple(name, value),
  }),
  fc.record({
    call: fc.constant('setHeaders' as const),
    form: fc.constantFrom('map' as const, 'headers' as const),
    pairs,
  }),
  fc.record({
    call: fc.constant('removeHeader' as const),
    name: fc.oneof(name, fc.constant('X-Powered-By')),
  }),
);
const head = fc.record({
  call: fc.constant('writeHead' as const),
  form: fc.constantFrom(
    'object' as const,
    'flat' as const,
    'pairs' as const,
    'odd' as const,
    'none' as const,
  ),
  reason: fc.option(fc.constantFrom('Accepted', 'Quite'), { nil: null }),
  pairs,
});

/** Held whole, a response goes with its length, also where Node alone would send it in chunks. */
const FRAMING = ['content-length', 'transfer-encoding'];

describe.each<[Platform, string]>([
  ['express', 'with its own header'],
  ['express', 'without any header'],
  ['fastify', 'without any header'],
])('a head that a handler writes on %s, %s', (platform, how) => {
  let postgres: RunningPostgres;
  let app: TestApp;
  let wire: Wire;

  beforeAll(async () => {
    postgres = await startPostgres();
    app = await startApp({
      platform,
      databaseUrl: postgres.url,
      controllers: [HeadsController],
      configure: (nest) => {
        if (platform === 'express' && how === 'without any header')
          (nest.getHttpAdapter().getInstance() as { disable(name: string): void }).disable('x-powered-by');
      },
    });
    wire = await Wire.open(app.url);
  });
  afterAll(async () => {
    wire.leave();
    await app.close();
    await postgres.stop();
  });

  const ask = (steps: Step[], key?: string): Promise<WireResponse> =>
    wire.ask({
      path: '/write',
      headers: {
        'Content-Type': 'application/json',
        ...(key === undefined ? {} : { 'Idempotency-Key': key }),
      },
      body: JSON.stringify(steps),
    });
  const seen = (response: WireResponse): string[] => [
    ...bytesOf({ ...response, rawBody: response.body }, FRAMING).split('\r\n'),
  ];

  it('is what Node alone sends, at first and in a replay, in each form that Node takes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 3 }), head, async (steps, last) => {
        const all = [...steps, last];
        const alone = await ask(all);
        handled = 0;
        const key = randomUUID();
        const first = await ask(all, key);
        const second = await ask(all, key);
        expect(seen(first)).toEqual(seen(alone));
        expect(seen(second)).toEqual(seen(first));
        expect([isReplayed(second), handled]).toEqual(first.status < 500 ? [true, 1] : [false, 2]);
      }),
      runs(150),
    );
  });
});
