import fc from 'fast-check';
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { DataSource } from 'typeorm';
import { isIdempotencyError } from '../../lib/core/errors';
import { Protocol } from '../../lib/core/protocol';
import { recordId, type RecordId } from '../../lib/core/record';
import type { BeginResult, TransactionStore } from '../../lib/core/transaction';
import type { RequestObserver } from '../../lib/core/ports';
import { resolveModuleOptions, resolvePolicy } from '../../lib/options/resolve';
import { noEncryption } from '../../lib/outcome/outcome-cipher';
import { applicationPool } from '../../lib/store/postgres/connection/pool';
import { PostgresConnection } from '../../lib/store/postgres/connection/postgres.connection';
import { PostgresStore } from '../../lib/store/postgres/postgres.store';
import { outside } from '../../lib/transaction/ambient';
import { Transactions } from '../../lib/transaction/transactions';
import { startPostgres, type RunningPostgres } from '../../servers';
import { Link } from '../faults/rig/link';
import { PostgresReader } from '../faults/rig/statements';
import { runs } from '../support/arbitraries';
import { migrated, sql } from '../support/database';

const TABLE = 'idempotency_cache';
const FINGERPRINT = 'ab'.repeat(32);
const PROCESSES = 3;
const TIMEOUT = 2_000;

/** What the key has when the requests come. */
const STANDING = ['nothing', 'an orphan', 'an expired record', 'an expired claim'] as const;

const scenario = fc.record({
  standing: fc.constantFrom(...STANDING),
  requests: fc.array(
    fc.record({
      process: fc.nat(PROCESSES - 1),
      transaction: fc.boolean(),
      handler: fc.constantFrom('returns', 'returns', 'returns', 'fails', 'refuses'),
      /** Milliseconds. */
      after: fc.nat(12),
      takes: fc.nat(8),
    }),
    { minLength: 2, maxLength: 6 },
  ),
  /** Each strikes once, over the connections on which handlers work. */
  faults: fc.array(
    fc.record({
      process: fc.nat(PROCESSES - 1),
      statement: fc.constantFrom('begin', 'insert-completed', 'commit'),
      side: fc.constantFrom('request' as const, 'reply' as const),
      ruling: fc.constantFrom('reset' as const, 'cut' as const),
    }),
    { maxLength: 2 },
  ),
});
type Scenario = typeof scenario extends fc.Arbitrary<infer T> ? T : never;

interface Effect {
  readonly nonce: string;
  readonly transaction: boolean;
}

/** The real protocol and stores of one process, without Redis. */
class Process {
  private constructor(
    readonly link: Link,
    readonly dataSource: DataSource,
    private readonly connection: PostgresConnection,
    readonly protocol: Protocol,
    readonly store: PostgresStore,
  ) {}

  static async start(url: string, breakIt: (result: BeginResult) => BeginResult): Promise<Process> {
    const through = new URL(url);
    const link = await Link.open(Number(through.port), () => new PostgresReader(), {
      mode: () => undefined,
      ruling: () => undefined,
    });
    through.hostname = '127.0.0.1';
    through.port = String(link.port);
    const dataSource = await new DataSource({ type: 'postgres', url: through.href }).initialize();
    const own = await new DataSource({ type: 'postgres', url }).initialize();
    const connection = new PostgresConnection(applicationPool(own), { timeout: TIMEOUT, poolSize: 4 });
    await own.destroy();
    const store = new PostgresStore(connection, { table: TABLE, tableName: TABLE }, { retention: 3_600_000 });
    const find = store.find.bind(store);
    const transactions = new Transactions(dataSource, connection, {
      table: TABLE,
      cipher: noEncryption,
      retention: 3_600_000,
      timeout: TIMEOUT,
      preparedStatements: true,
      maxQueued: 100,
      find,
      findInPostgres: find,
      completed: () => undefined,
    });
    const opened: TransactionStore = {
      begin: async (request) => breakIt(await transactions.begin(request)),
      look: async (id) => ((await transactions.isLocked(id)) ? 'locked' : find(id)),
      outside,
    };
    const observer = new Proxy({}, { get: () => () => undefined }) as RequestObserver;
    const protocol = new Protocol(store, observer, resolveModuleOptions({}).bounds, opened);
    return new Process(link, dataSource, connection, protocol, store);
  }

  async stop(): Promise<void> {
    this.link.unwatch();
    await this.connection.close();
    await this.dataSource.destroy();
    await this.link.close();
  }
}

describe('claims with leases and transactions of the same keys', () => {
  let postgres: RunningPostgres;
  let processes: Process[] = [];

  beforeAll(async () => {
    postgres = await startPostgres();
    await (await migrated(postgres.url)).destroy();
    await sql(postgres.url, 'CREATE TABLE effect (key text, nonce text, transaction boolean)');
  });
  afterAll(() => postgres.stop());
  afterEach(() => Promise.all(processes.map((each) => each.stop())));
  const start = async (breakIt: (result: BeginResult) => BeginResult = (result) => result): Promise<void> => {
    processes = await Promise.all(
      Array.from({ length: PROCESSES }, () => Process.start(postgres.url, breakIt)),
    );
  };

  const policy = (transaction: boolean) =>
    resolvePolicy(
      'test',
      { transaction, waitTimeout: '10s', ...(transaction ? {} : { lease: '60s' }) },
      resolveModuleOptions({}).defaults,
    );
  const prepare = async (id: RecordId, standing: Scenario['standing']): Promise<void> => {
    if (standing === 'nothing') return;
    const { store } = processes[0]!;
    const result = await store.claim({
      id,
      fingerprint: FINGERPRINT,
      token: randomUUID(),
      lease: 60_000,
      takeOver: true,
      bypassCache: true,
      durability: 'durable',
    });
    if (!result.claimed) throw new Error('not claimed');
    if (standing === 'an expired record')
      await store.complete(result.claim, {
        kind: 'response',
        status: 201,
        headers: [],
        body: Buffer.from('old'),
      });
    const past = `now() - interval '1 s'`;
    if (standing !== 'an expired record')
      await sql(postgres.url, `UPDATE ${TABLE} SET lease_until = ${past} WHERE id = '\\x${id.hash}'`);
    if (standing !== 'an orphan')
      await sql(postgres.url, `UPDATE ${TABLE} SET expires_at = ${past} WHERE id = '\\x${id.hash}'`);
  };

  /** One request, and its retries until it has a response. */
  const ask = async (
    id: RecordId,
    { process, transaction, handler, after, takes }: Scenario['requests'][number],
  ): Promise<string> => {
    const { protocol, dataSource } = processes[process]!;
    await delay(after);
    for (let tries = 1; ; tries++) {
      try {
        const result = await protocol.run(
          { id, fingerprint: FINGERPRINT, policy: policy(transaction) },
          async (_, within) => {
            const nonce = `${handler} ${randomUUID()}`;
            await dataSource.query('INSERT INTO effect VALUES ($1, $2, $3)', [id.key, nonce, transaction]);
            await delay(takes);
            if (handler === 'fails' && tries === 1) throw new Error('failed');
            if (handler === 'refuses') within?.undo();
            return { kind: 'response', status: 201, headers: [], body: Buffer.from(nonce) };
          },
        );
        if (result.outcome?.kind !== 'response') throw new TypeError('no response');
        return result.outcome.body.toString();
      } catch (error) {
        const expected =
          isIdempotencyError(error) || (error instanceof Error && !(error instanceof TypeError));
        if (!expected || tries > 20) throw error;
      }
    }
  };

  const play = async ({ standing, requests, faults }: Scenario): Promise<void> => {
    const id = recordId('mixed', randomUUID());
    await prepare(id, standing);
    for (const { process, statement, side, ruling } of faults)
      processes[process]!.link.watch(statement, side, ruling);
    const answers = await Promise.all(requests.map((request) => ask(id, request)));
    for (const { link } of processes) link.unwatch();
    expect(new Set(answers).size).toBe(1);
    const [answer] = answers;
    const effects = await sql<Effect>(postgres.url, 'SELECT nonce, transaction FROM effect WHERE key = $1', [
      id.key,
    ]);
    const committed = effects.filter((each) => each.transaction).map(({ nonce }) => nonce);
    const leased = effects.filter((each) => !each.transaction && !each.nonce.startsWith('fails'));
    // What a handler under a lease has written stays where it fails, and a transaction that refuses leaves nothing.
    expect(committed).toEqual(committed.length > 0 ? [answer] : []);
    if (leased.length > 0) expect(leased.map(({ nonce }) => nonce)).toEqual([answer]);
    else if (!answer!.startsWith('fails'))
      expect(committed).toEqual(answer!.startsWith('refuses') ? [] : [answer]);
  };
  const property = (): fc.IAsyncProperty<[Scenario]> => fc.asyncProperty(scenario, play);

  it('give one answer, and one effect that is committed with it', async () => {
    await start();
    await fc.assert(property(), runs(60));
  });

  it('do not where handlers write outside of their transactions', async () => {
    await start((result) => {
      if (result.kind !== 'begun') return result;
      const { transaction } = result;
      transaction.run = (work) => outside(work);
      return result;
    });
    const { failed } = await fc.check(property(), { numRuns: 60, endOnFailure: true });
    expect(failed).toBe(true);
  });
});
