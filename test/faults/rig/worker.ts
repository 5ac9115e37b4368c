import { HttpException, Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { randomUUID } from 'node:crypto';
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { IdempotencyContext } from 'nestjs-idempotency';
import type { Repository } from 'typeorm';
import type { FromApp } from '../../support/processes';
import { Effect } from './effect';
import { monotonicNow, type Execution } from './ledger';

/** What a handler is told to do, in the header `x-work`: unlike the body it is not part of the fingerprint. */
export interface Work {
  /** Milliseconds that the handler takes. */
  readonly takes?: number;
  /** The handler ends when the parent lets it. */
  readonly hold?: boolean;
  /** The handler fails with this status. */
  readonly fails?: number;
  /** The handler holds a connection of the application's own pool meanwhile. */
  readonly holdsConnection?: boolean;
  /** When the handler writes its row, beside taking its time: before, after, or never. @default 'first' */
  readonly effect?: 'first' | 'last' | 'none';
  /** Statements that the handler sends over its repository before it takes its time, and after it. */
  readonly sql?: readonly string[];
  readonly then?: readonly string[];
  /** The handler goes on where one of them fails. */
  readonly swallows?: boolean;
  /** The ledger is not flushed, which takes many handlers at once seconds: for scenarios that kill no process. */
  readonly unsynced?: boolean;
  /** Length of the response's filling. */
  readonly size?: number;
}

/** A record that an operator has deleted, in the same header. */
export interface Deletion {
  readonly key: string;
  readonly route: string;
  readonly by: 'forget' | 'purge';
}

export interface ToInstance {
  readonly finish: string;
}

/** The claim of a request, as far as the ledger has it. */
export type Claim = Pick<IdempotencyContext, 'key' | 'attempt' | 'fence'>;

/** What the handler's row is committed with: alone beside a lease or other records, or with the record. */
export type Protection = 'lease' | 'transaction' | 'other';

/** A handler under a lease goes on without its row after so many ms, as these routes are judged by their executions. */
const EFFECT_WITHIN = 500;

/** By default; of those that a handler may be told to fail with. */
const isRecorded = (status: number): boolean => status < 500 && status !== 429;

/** On disk before the handler goes on, so that no fault can make an execution unseen. */
function write(execution: Execution, unsynced: boolean): void {
  const file = openSync(process.env.LEDGER ?? '', 'a');
  writeSync(file, `${JSON.stringify(execution)}\n`);
  if (!unsynced) fsyncSync(file);
  closeSync(file);
}

/** Does what the routes' handlers do: writes itself down, leaves its row, and takes its time. */
@Injectable()
export class Worker {
  private readonly held = new Map<string, () => void>();
  private readonly finished = new Set<string>();

  constructor(@InjectRepository(Effect) private readonly effects: Repository<Effect>) {
    process.on('message', ({ finish }: ToInstance) => {
      this.finished.add(finish);
      this.held.get(finish)?.();
    });
  }

  async work(
    scope: string,
    told: string,
    { key, attempt, fence }: Claim,
    protection: Protection = 'lease',
  ): Promise<unknown> {
    const work = JSON.parse(told) as Work;
    const { takes = 0, fails, effect = 'first', unsynced = false, size = 0 } = work;
    const nonce = randomUUID();
    const { INSTANCE: instance = '' } = process.env;
    const at = monotonicNow();
    const failed = fails !== undefined && !isRecorded(fails);
    const transactional = protection === 'transaction';
    const leaves = fails === undefined ? effect : 'none';
    write({ scope, key, instance, pid: process.pid, attempt, fence, nonce, at, failed, takes, effect: leaves, transactional }, unsynced); // prettier-ignore
    process.send?.({ handling: key } satisfies FromApp);
    if (effect === 'first') await this.leave({ scope, key, nonce }, protection);
    await this.send(work.sql, work);
    await this.takeTime(key, work);
    await this.send(work.then, work);
    if (effect === 'last') await this.leave({ scope, key, nonce }, protection);
    if (fails) throw new HttpException({ message: 'told to fail', nonce }, fails);
    return { nonce, filling: 'x'.repeat(size) };
  }

  query(): Promise<unknown> {
    return this.effects.query('SELECT 1');
  }

  private async leave(effect: Omit<Effect, 'id'>, protection: Protection): Promise<void> {
    const written = this.effects.insert(effect);
    if (protection !== 'lease') await written;
    else
      await Promise.race([written.catch(() => undefined), delay(EFFECT_WITHIN, undefined, { ref: false })]);
  }

  private async send(statements: readonly string[] = [], { swallows }: Work): Promise<void> {
    for (const statement of statements) {
      const sent = this.effects.query(statement);
      await (swallows ? sent.catch(() => undefined) : sent);
    }
  }

  private async takeTime(key: string, { takes = 0, hold, holdsConnection }: Work): Promise<void> {
    const runner = this.effects.manager.dataSource.createQueryRunner();
    if (holdsConnection) await runner.connect();
    if (takes > 0) await delay(takes);
    if (hold && !this.finished.has(key)) await new Promise<void>((go) => this.held.set(key, go));
    await runner.release();
  }
}
