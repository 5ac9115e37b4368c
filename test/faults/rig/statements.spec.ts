import { Redis } from 'ioredis';
import { markCleanup, markTold } from '../../../lib/store/postgres/schema/marks';
import * as statements from '../../../lib/store/postgres/schema/statements';
import * as transaction from '../../../lib/transaction/statements';
import { RedisConnection } from '../../../lib/store/redis/connection/redis.connection';
import { RedisStore } from '../../../lib/store/redis/redis.store';
import { COMPLETE, INSPECT, PUT } from '../../../lib/store/redis/scripts';
import { openRedisStore } from '../../support/open-redis-store';
import { newClaim, response } from '../../support/redis-store';
import { Link } from './link';
import { PostgresReader, postgresStatement, RedisReader } from './statements';

const TABLE = '"idempotency_cache"';
const PLACES = { table: TABLE, sequence: 'fences' };

/** Every statement that the Postgres store can send, and the name that the rig knows it by. */
const NAMES: readonly (readonly [name: string, text: string])[] = [
  ['claim', statements.claimOrRead(TABLE, 'durable')],
  ['claim', statements.claimMany(TABLE, 'fast')],
  ['reclaim', statements.reclaimExpired(TABLE, 'durable')],
  ['take-over', statements.takeOver(TABLE, 'fast')],
  ['complete', statements.complete(TABLE, { waits: true })],
  ['complete', statements.complete(TABLE, { waits: false })],
  ['complete', statements.completeMany(TABLE)],
  ['confirm', statements.confirm()],
  ['insert-completed', statements.insertCompleted(TABLE)],
  ['delete-expired', statements.deleteExpired(TABLE)],
  ['release', statements.release(TABLE, { waits: true })],
  ['release', statements.release(TABLE, { waits: false })],
  ['release', statements.releaseMany(TABLE)],
  ['abandon', statements.abandon(TABLE)],
  ['renew', statements.renew(TABLE)],
  ['read', statements.read(TABLE)],
  ['read', statements.readMany(TABLE)],
  ['forget', statements.forget(TABLE)],
  ['are-forgotten', statements.areForgotten(TABLE)],
  ['cleanup', statements.cleanUp(TABLE)],
  ['mark-cleanup', markCleanup(TABLE)],
  ['orphans', markTold(TABLE)],
];

/** What a transaction sends beside those of the handler. */
const IN_TRANSACTION: readonly (readonly [name: string, text: string])[] = [
  ['begin', transaction.begin(undefined)],
  ['begin', transaction.begin('SERIALIZABLE')],
  ['lock', transaction.TRY_LOCK],
  ['look', transaction.read(PLACES)],
  ['delete-expired', transaction.deleteExpired(PLACES)],
  ['insert-completed', transaction.insertCompleted(PLACES)],
  ['complete', transaction.completeClaim(PLACES)],
  ['commit', transaction.COMMIT],
  ['rollback', transaction.ROLLBACK],
  ['is-free', transaction.ARE_FREE],
];

function message(type: string, body: string): Buffer {
  const bytes = Buffer.from(body);
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeInt32BE(bytes.length + 4, 1);
  return Buffer.concat([type === '' ? head.subarray(1) : head, bytes]);
}

function command(...parts: string[]): string {
  return `*${parts.length}\r\n${parts.map((part) => `$${Buffer.byteLength(part)}\r\n${part}\r\n`).join('')}`;
}

describe('the links know what passes', () => {
  it('in Postgres: every statement of the store by the name of what it does', () => {
    expect(NAMES).toHaveLength(Object.keys(statements).length + 4); // two make two each, and two are of marks
    for (const [name, text] of [...NAMES, ...IN_TRANSACTION])
      expect([name, postgresStatement(text)]).toEqual([name, name]);
  });

  it('in Postgres: each time a statement is bound, also one that was prepared before, however the bytes come', () => {
    const stream = Buffer.concat([
      message('', '\0\0\0\0user\0x\0\0').subarray(0),
      message('P', `named\0${statements.claimOrRead(TABLE, 'durable')}\0\0\0`),
      message('B', `\0named\0${'v'.repeat(1_000)}`),
      message('S', ''),
      message('P', `\0${statements.release(TABLE, { waits: false })}\0\0\0`),
      message('B', '\0\0'),
      message('B', '\0named\0'),
    ]);
    for (const size of [1, 7, 100_000]) {
      const reader = new PostgresReader();
      const seen: string[] = [];
      for (let at = 0; at < stream.length; at += size)
        seen.push(...reader.read(stream.subarray(at, at + size)));
      expect(seen).toEqual(['claim', 'release', 'claim']);
    }
  });

  it('in Postgres: where in a chunk a statement begins', () => {
    const reader = new PostgresReader();
    const startup = message('', '\0\0\0\0user\0x\0\0');
    const before = Buffer.concat([message('P', `a\0${statements.read(TABLE)}\0`), message('B', '\0a\0')]);
    const bound = message('B', '\0c\0');
    const commit = Buffer.concat([message('P', 'c\0COMMIT\0'), bound]);
    expect(reader.read(Buffer.concat([startup, before, commit]))).toEqual(['read', 'commit']);
    expect(reader.startOf('commit')).toBe(startup.length + before.length + commit.length - bound.length);
    expect(reader.read(bound.subarray(0, 4))).toEqual([]);
    expect(reader.read(bound.subarray(4))).toEqual(['commit']);
    expect([reader.startOf('commit'), reader.startOf('read')]).toEqual([0, 0]);
  });

  it('in Redis: scripts by their names, and writes by what they write', () => {
    const copy = (rank: number): string[] => [`0 ${rank} 7 1 0 60000`, 'rest'];
    const stream = Buffer.from(
      [
        command('EVALSHA', INSPECT.sha, '1', 'key', '0'),
        command('EVAL', COMPLETE.source, '1', 'key', '0'),
        ...[0, 1, 2, 3].map((rank) => command('evalsha', PUT.sha, '1', 'key', ...copy(rank))),
        command('evalsha', PUT.sha, '2', 'a', 'b', ...copy(0), ...copy(2)),
        command('PING'),
      ].join(''),
    );
    for (const size of [1, 13, 100_000]) {
      const reader = new RedisReader();
      const seen: string[] = [];
      for (let at = 0; at < stream.length; at += size)
        seen.push(...reader.read(stream.subarray(at, at + size)));
      const single = ['hint', 'pending', 'outcome', 'removed'];
      expect(seen).toEqual(['inspect', 'complete', ...single, 'hint', 'outcome', 'ping']);
    }
  });

  describe('in Redis: what the store itself sends', () => {
    const open = openRedisStore();
    let link: Link;
    let application: Redis;
    let connection: RedisConnection;
    beforeAll(async () => {
      const diary = { mode: () => undefined, ruling: () => undefined };
      link = await Link.open(Number(new URL(open.url).port), () => new RedisReader(), diary);
      application = new Redis({ port: link.port, lazyConnect: true });
      connection = new RedisConnection(application, { timeout: 5_000 });
      await connection.open();
    });
    afterAll(async () => {
      await connection.close();
      application.disconnect();
      await link.close();
    });

    it('by the names of what it writes', async () => {
      const store = new RedisStore({ connection, keyPrefix: 'idempotency:', ttl: 60_000 });
      const claim = newClaim();
      const completed = { claim, state: 'completed', outcome: response(), ttl: 60_000 } as const;
      await store.put({ claim, state: 'in_progress', lease: 3_000 });
      await store.put({ ...completed, pending: true });
      await store.put({ ...completed, pending: false });
      await store.put({ claim, state: 'removed' });
      const writes = ['hint', 'pending', 'outcome', 'removed'];
      // The first is sent twice, as Redis does not know the script yet.
      expect(writes.map((name) => link.seen.get(name))).toEqual([2, 1, 1, 1]);
    });
  });
});
