import * as statements from '../../../lib/store/postgres/schema/statements';
import { COMPLETE, INSPECT, PUT } from '../../../lib/store/redis/scripts';
import { PostgresReader, postgresStatement, RedisReader } from './statements';

const TABLE = '"idempotency_cache"';

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
  ['forget', statements.forget(TABLE)],
  ['cleanup', statements.cleanUp(TABLE)],
];

/** What makes a part of a statement only. */
const PARTS: readonly string[] = ['commits', 'literal', 'milliseconds'] satisfies (keyof typeof statements)[];

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
    const makers = Object.keys(statements).filter((name) => !PARTS.includes(name));
    expect(NAMES).toHaveLength(makers.length + 2); // two make two each
    for (const [name, text] of NAMES) expect([name, postgresStatement(text)]).toEqual([name, name]);
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

  it('in Redis: scripts by their names, and writes by what they write', () => {
    const rest = ['fence', 'attempt', 'lease', 'ttl', 'rest'];
    const stream = Buffer.from(
      [
        command('EVALSHA', INSPECT.sha, '1', 'key', '0'),
        command('EVAL', COMPLETE.source, '1', 'key', '0'),
        ...['0', '1', '2', '3'].map((rank) => command('evalsha', PUT.sha, '1', 'key', '0', rank, '7')),
        command('evalsha', PUT.sha, '2', 'a', 'b', '0', '0', ...rest, '0', '2', ...rest),
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
});
