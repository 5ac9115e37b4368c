import { randomUUID } from 'node:crypto';
import { type Claim, type IdempotencyRecord, type Outcome, type ResponseOutcome } from '../../core/record';
import { created, FINGERPRINT, LONG_RETENTION, type DefineTest } from './trial';

export function completions(test: DefineTest): void {
  test('records the outcome for everyone', async ({ store, another, id, request, claim, expect }) => {
    const mine = await claim();
    expect(await store.complete(mine, created)).toEqual({ recorded: true });
    const found = await another.find(id);
    expect(found).toMatchObject({ ...mine, state: 'completed', outcome: created, pending: false });
    expect((await another.claim(request({ takeOver: true }))).claimed).toBe(false);
  });

  test('may be repeated when its reply was lost', async ({ store, another, claim, expect }) => {
    const mine = await claim();
    await store.complete(mine, created);
    expect(await another.complete(mine, created)).toEqual({ recorded: true });
  });

  test('keeps the first outcome of a claim: a client may have seen it', async ({
    store,
    another,
    id,
    claim,
    expect,
  }) => {
    const mine = await claim();
    await store.complete(mine, created);
    await another.complete(mine, { ...created, status: 202 });
    expect(await store.find(id)).toMatchObject({ state: 'completed', outcome: created });
  });

  test('says for how many milliseconds the outcome answers', async ({
    store,
    another,
    id,
    claim,
    expect,
  }) => {
    await store.complete(await claim(), created);
    const found = await another.find(id);
    expect(expiresIn(found)).toBeGreaterThan(LONG_RETENTION / 2);
    expect(expiresIn(found)).toBeLessThanOrEqual(LONG_RETENTION + 1_000); // a store may count in whole seconds
  });

  test('keeps a tombstone as long as a response', async ({ store, another, id, claim, expect }) => {
    await store.complete(await claim(), { kind: 'tombstone', status: 200, reason: 'too_large' });
    expect(expiresIn(await another.find(id))).toBeGreaterThan(LONG_RETENTION / 2);
  });

  test('still counts after the lease has lapsed, as long as no claim took over', async ({
    store,
    orphan,
    expect,
  }) => {
    const mine = await orphan();
    expect(await store.complete(mine, created)).toEqual({ recorded: true });
  });

  test('is refused once another claim stands, and shows that claim', async ({
    store,
    claim,
    orphan,
    expect,
  }) => {
    const old = await orphan();
    const winner = await claim({ takeOver: true });
    expect(await store.complete(old, created)).toMatchObject({
      recorded: false,
      record: { state: 'in_progress', token: winner.token, fence: winner.fence },
    });
  });

  const strangers: [string, Partial<Claim>][] = [
    ['token', { token: randomUUID() }],
    ['fence', { fence: 3 }],
  ];
  for (const [what, other] of strangers)
    test(`is refused under another ${what} than the claim’s`, async ({ store, claim, expect }) => {
      const mine = await claim();
      expect(await store.complete({ ...mine, ...other }, created)).toMatchObject({
        recorded: false,
        record: { state: 'in_progress', token: mine.token, fence: mine.fence },
      });
      expect(await store.complete(mine, created)).toEqual({ recorded: true });
    });

  test('is refused once another claim has completed, and shows its outcome', async ({
    store,
    claim,
    orphan,
    expect,
  }) => {
    const old = await orphan();
    const winner = await claim({ takeOver: true });
    await store.complete(winner, { ...created, status: 202 });
    expect(await store.complete(old, created)).toMatchObject({
      recorded: false,
      record: { state: 'completed', outcome: { status: 202 } },
    });
  });

  test('records the outcome although the store has lost the claim: the handler has run', async ({
    store,
    id,
    expect,
  }) => {
    const lost: Claim = { id, fingerprint: FINGERPRINT, token: randomUUID(), fence: 7, attempt: 1 };
    expect(await store.complete(lost, created)).toEqual({ recorded: true });
    expect(await store.find(id)).toMatchObject({ state: 'completed', outcome: created });
  });

  const outcomes: [string, Outcome][] = [
    ['any bytes', response({ body: Buffer.from([0, 10, 13, 255, 254, 0, 128, 0xc3, 0x28]) })],
    ['no bytes', response({ body: Buffer.alloc(0) })],
    ['1 MiB', response({ body: Buffer.alloc(1_048_576, '\n0:1:2\n') })],
    [
      'header order, repeated and odd values',
      response({
        headers: [
          ['X-B', '2'],
          ['x-a', ['1', '', '1']],
          ['X-U', 'é"\\\t'],
        ],
      }),
    ],
    ['no headers', response({ headers: [] })],
    ['a tombstone for a large body', { kind: 'tombstone', status: 200, reason: 'too_large' }],
    ['a tombstone for an unstorable one', { kind: 'tombstone', status: 204, reason: 'unstorable' }],
  ];
  for (const [what, outcome] of outcomes)
    test(`keeps ${what} byte for byte`, async ({ store, another, id, claim, expect }) => {
      await store.complete(await claim(), outcome);
      const found = await another.find(id);
      if (found?.state !== 'completed') throw new Error('there is no outcome');
      // Jest compares long buffers byte by byte, for seconds.
      if (outcome.kind === 'response') expect(bodyOf(found.outcome).equals(outcome.body)).toBe(true);
      expect({ ...found.outcome, body: undefined }).toEqual({ ...outcome, body: undefined });
    });
}

function response(part: Partial<ResponseOutcome>): Outcome {
  return { ...created, ...part };
}

function expiresIn(record: IdempotencyRecord | undefined): unknown {
  return record?.state === 'completed' ? record.expiresIn : undefined;
}

function bodyOf(outcome: Outcome): Buffer {
  if (outcome.kind !== 'response') throw new Error('the outcome has no body');
  return outcome.body;
}
