import { performance } from 'node:perf_hooks';
import { isLate } from '../batching/late';
import type { RedisClient } from './connection/fail-fast.client';
import type { RedisClock } from './connection/redis.clock';
import { VERDICT, type Script } from './scripts';

export type Argument = string | number | Buffer;

export interface Reply {
  /** One of VERDICT. */
  readonly verdict: number;
  /** Milliseconds by Redis' clock. */
  readonly now: number;
  readonly value: Buffer | undefined;
}

export interface EvaluateOptions {
  readonly clock: RedisClock;
  /** Milliseconds for which the caller waits. */
  readonly timeout: number;
  /** Whether the command must not take effect after the caller has given up. */
  readonly droppedIfLate: boolean;
  /** Whether the caller still waits. */
  readonly isAwaited: boolean;
}

/** ioredis has a form of every command that leaves replies as bytes; of these two its types do not know. */
interface ScriptCommands {
  evalBuffer(source: string, keys: number, ...args: readonly Argument[]): Promise<unknown>;
  evalshaBuffer(sha: string, keys: number, ...args: readonly Argument[]): Promise<unknown>;
}

/**
 * Runs a script. One that came too late by Redis' clock, although the caller still waits, is run again: the reply has
 * shown the right time, which may have been set, or be another node's.
 * @throws Error if Redis does not answer, or refuses
 */
export async function evaluate(
  client: RedisClient,
  script: Script,
  key: string,
  args: readonly Argument[],
  options: EvaluateOptions,
): Promise<Reply> {
  const { clock, timeout, droppedIfLate } = options;
  let waitsUntil = performance.now() + timeout;
  for (let extended = false; ;) {
    const deadline = droppedIfLate ? clock.at(waitsUntil) : 0;
    const reply = toReply(await runScript(client, script, [key], [deadline, ...args]));
    clock.show(reply.now);
    if (reply.verdict !== VERDICT.late) return reply;
    const now = performance.now();
    if (now < waitsUntil) continue;
    // One that was dropped as this process was too busy to write it in time has its time again, as its caller grants.
    if (extended || !options.isAwaited || !isLate(now - waitsUntil, timeout))
      throw new Error('the command came too late and was dropped');
    extended = true;
    waitsUntil = now + timeout;
  }
}

/** Runs a script by its hash; a server that does not know it yet, as after a restart, gets its source. */
export function runScript(
  client: RedisClient,
  { sha, source }: Script,
  keys: readonly string[],
  args: readonly Argument[],
): Promise<unknown> {
  const commands = client as unknown as ScriptCommands;
  return commands.evalshaBuffer(sha, keys.length, ...keys, ...args).catch((error: unknown) => {
    if (!(error instanceof Error && error.message.startsWith('NOSCRIPT'))) throw error;
    return commands.evalBuffer(source, keys.length, ...keys, ...args);
  });
}

function toReply(reply: unknown): Reply {
  const [verdict, now, value] = reply as [number, Buffer, Buffer | null];
  return { verdict, now: Number(now.toString()), value: value ?? undefined };
}
