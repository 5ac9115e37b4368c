import { Logger } from '@nestjs/common';
import type { Client, Pool, PoolClient } from 'pg';
import { inBackground } from '../../../core/background';
import { waitsForStandby, type Notice } from './unconfirmed-commit';
import { destroySocket, ownPool, type ApplicationPool } from './pool';

/** Told once, either of an error or of a client. */
type Taken = (error: Error | undefined, client?: PoolClient) => void;

/** Milliseconds after which a client passes through the pool, which ends those that are idle or have lived too long. */
const PASS_EVERY = 1_000;

/**
 * The clients of the module's own pool. One that was used is kept for the next statement, as to take it from the pool
 * and to give it back costs two timers. The caller sees to it that no more are taken than the pool has.
 */
export class Clients {
  private readonly logger = new Logger('Idempotency');
  private readonly pool: Pool;
  /** Every client whose socket may be open, also those that are still connecting. */
  private readonly open = new Set<Client>();
  private readonly kept: PoolClient[] = [];
  /** Those whose last commit was cancelled while it waited for a standby. */
  private readonly unconfirmed = new WeakSet<Client>();
  /** The pass in which a client was taken from the pool. */
  private readonly takenIn = new WeakMap<PoolClient, number>();
  private pass = 0;
  private timer: NodeJS.Timeout | undefined;
  private closed = false;

  constructor(application: ApplicationPool, max: number, timeout: number) {
    this.pool = ownPool(application, max, timeout, {
      opened: (client) => {
        this.open.add(client);
        client.on('notice', (notice: Notice) => waitsForStandby(notice) && this.unconfirmed.add(client));
      },
      failed: (client, error) => this.lose(client, error),
      ended: (client) => this.open.delete(client),
    });
    this.pool.on('error', (error) => this.logLoss(error));
  }

  /** At once where one is kept. */
  take(taken: Taken): void {
    const kept = this.kept.pop();
    if (kept) return taken(undefined, kept);
    this.pool.connect((error, client) => {
      if (client) this.takenIn.set(client, this.pass);
      taken(error, client);
    });
  }

  /** Whether Postgres took the last commit of this client for a success that its standby may not have. Told once. */
  leftUnconfirmed(client: PoolClient): boolean {
    return this.unconfirmed.delete(client);
  }

  giveBack(client: PoolClient): void {
    if (this.closed || this.takenIn.get(client) !== this.pass) return client.release();
    this.kept.push(client);
    this.timer ??= inBackground(() => setTimeout(this.passOn, PASS_EVERY));
    this.timer.unref();
  }

  /** Never back to the pool as healthy: the reply to our statement may still come over this socket. */
  destroy(client: PoolClient, error: unknown): void {
    client.release(error instanceof Error ? error : true);
    destroySocket(client);
  }

  /** Ends the pool. Resolves once every client that is given back has ended. */
  async end(): Promise<void> {
    this.closed = true;
    clearTimeout(this.timer);
    this.passOn();
    const ended = [...this.open].map((client) => new Promise((resolve) => client.once('end', resolve)));
    await Promise.all([this.pool.end(), ...ended]);
  }

  destroyAll(): void {
    for (const client of this.open) destroySocket(client);
  }

  /** Those that are in use now go to the pool when they are given back. */
  private readonly passOn = (): void => {
    this.timer = undefined;
    this.pass++;
    for (const client of this.kept.splice(0)) client.release();
  };

  /** A client that is in use tells its statement, one that is idle in the pool tells the pool. */
  private lose(client: Client, error: Error): void {
    const index = this.kept.indexOf(client as PoolClient);
    if (index < 0) return;
    const [kept] = this.kept.splice(index, 1);
    kept?.release(error);
    this.logLoss(error);
  }

  private logLoss(error: Error): void {
    this.logger.debug(`An idle Postgres connection was lost: ${error.message}`);
  }
}
