import { performance } from 'node:perf_hooks';
import { StoreUnavailableError } from '../../core/errors';
import { Batcher, type BatchBounds, type BatcherOptions } from '../batching/batcher';
import { runScript, type Argument } from './evaluate';
import type { RedisClient } from './connection/fail-fast.client';
import type { RedisConnection } from './connection/redis.connection';
import { isFailureOfRedis } from './connection/refusals';
import { PUT, VERDICT } from './scripts';

/** A value to be kept. Made in one go: V8 gives each object that is made by a spread its own shape. */
export interface Copy {
  readonly key: string;
  readonly rank: number;
  readonly fence: number;
  readonly attempt: number;
  /** Milliseconds; 0 unless it is a hint. */
  readonly lease: number;
  /** Milliseconds. */
  readonly ttl: number;
  /** What follows the head of the value. */
  readonly rest: Buffer;
  /** Monotonic time (ms) from which on it must not be written any more. */
  readonly notAfter: number;
}

/** Keys of one command at most, and bytes of what one writes: Redis serves no other client meanwhile. */
const BOUNDS: BatchBounds = { items: 64, bytes: 262_144, inFlight: Infinity };

type Failed = (error: unknown) => void;

/**
 * Reads and writes of the copies in Redis; what meets in one turn of the event loop goes as one command. On a cluster
 * each goes alone, as the keys of one command have to be on one node.
 */
export class CacheBatches {
  private readonly reads: Batcher<string, Buffer | null>;
  private readonly writes: Batcher<Copy, number>;

  constructor(private readonly connection: RedisConnection) {
    // Several of one key, as duplicates are, may go together.
    this.reads = this.batcher('find', (client, keys: readonly string[]) => client.mgetBuffer([...keys]), {
      bytesOf: () => 0,
    });
    this.writes = this.batcher('put', (client, copies) => this.put(client, copies), {
      keyOf: ({ key }) => key,
      bytesOf: ({ rest }) => rest.length,
      afterTurn: true, // the answer of the request, whose turn this is, goes first
    });
  }

  /** A value of another type reads as none: `write` tells of it. */
  read(key: string, resolve: (value: Buffer | null) => void, reject: Failed): void {
    this.reads.add(key, resolve, reject);
  }

  /** @param resolve told done (also if a later state of its claim stands), displaced or refused */
  write(copy: Copy, resolve: (verdict: number) => void, reject: Failed): void {
    const decided = (verdict: number): void => {
      if (verdict !== VERDICT.late) resolve(verdict);
      else reject(unavailable('put', 'the command came too late and was dropped'));
    };
    this.writes.add(copy, decided, reject);
  }

  private batcher<Item, Result>(
    operation: string,
    command: (client: RedisClient, items: readonly Item[]) => Promise<Result[]>,
    options: Pick<BatcherOptions<Item, Result>, 'keyOf' | 'bytesOf' | 'afterTurn'>,
  ): Batcher<Item, Result> {
    const { connection } = this;
    return new Batcher<Item, Result>({
      send: (items, { onSend, onResults, onError }) => {
        const send = (client: RedisClient): Promise<Result[]> => {
          onSend();
          return command(client, items);
        };
        connection.send(operation, send, onResults, onError);
      },
      ...options,
      isRefusal: (error) => error instanceof StoreUnavailableError && error.sent && isAboutOne(error.cause),
      expired: () => unavailable(operation, 'no answer in time'),
      timeout: 4 * connection.timeout, // the connection's own comes first
      bounds: connection.isCluster ? { ...BOUNDS, items: 1 } : BOUNDS,
    });
  }

  /** What came too late by Redis' clock, although its caller still waits, is sent again: the reply has shown the right time. */
  private put(client: RedisClient, copies: readonly Copy[]): Promise<number[]> {
    const { clock } = this.connection;
    const keys = copies.map(({ key }) => key);
    const args: Argument[] = [];
    // The numbers in one, as each argument costs ioredis and Redis as much as parsing all of them.
    for (const { rank, fence, attempt, lease, ttl, rest, notAfter } of copies)
      args.push(`${clock.at(notAfter)} ${rank} ${fence} ${attempt} ${lease} ${ttl}`, rest);
    return runScript(client, PUT, keys, args).then((reply) => {
      const [verdicts, now] = reply as [number[], Buffer];
      clock.show(Number(now.toString()));
      const inTime = (copy: Copy, index: number): boolean =>
        verdicts[index] === VERDICT.late && performance.now() < copy.notAfter;
      const again = copies.filter(inTime);
      return again.length === 0 ? verdicts : this.putAgain(client, copies, verdicts, again);
    });
  }

  private async putAgain(
    client: RedisClient,
    copies: readonly Copy[],
    verdicts: readonly number[],
    again: readonly Copy[],
  ): Promise<number[]> {
    const later = await this.put(client, again);
    return copies.map((copy, index) => later[again.indexOf(copy)] ?? verdicts[index] ?? VERDICT.late);
  }
}

/** What a server answers to every client, beside what shows that it cannot serve. */
const ABOUT_ALL = /^(OOM|NOPERM|MISCONF|NOREPLICAS)\b/;

/** An error reply that may be due to one item of many. */
function isAboutOne(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { message } = error;
  return !isFailureOfRedis(error) && !ABOUT_ALL.test(message);
}

function unavailable(operation: string, reason: string): StoreUnavailableError {
  return new StoreUnavailableError('redis', operation, new Error(reason));
}
