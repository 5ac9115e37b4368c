import { Logger } from '@nestjs/common';
import {
  circuitBreaker,
  CircuitState,
  ConsecutiveBreaker,
  handleWhen,
  type CircuitBreakerPolicy,
} from 'cockatiel';
import { Cluster, type Redis, type RedisOptions } from 'ioredis';
import { setTimeout as delay } from 'node:timers/promises';
import { StoreUnavailableError } from '../../core/errors';

export interface RedisConnectionOptions {
  /** Milliseconds after which a command counts as failed. */
  readonly timeout: number;
  /** Told whenever Redis is used again, or bypassed from now on. */
  readonly onAvailabilityChange: (up: boolean) => void;
}

const FAILURES_TO_OPEN = 3;
const SHORTEST_PROBE = 250;
const LONGEST_PROBE = 5_000;
const SOCKET_TIMEOUT = 1_000;
const DISCONNECT_TIMEOUT = 250;

/** Answers of a server that is there but cannot serve; any other error reply is about the one command. */
const UNUSABLE = /^(READONLY|LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|MISCONF)\b/;

/**
 * A dedicated connection that fails fast, duplicated from the application's own, behind a circuit breaker: it opens
 * at once when the connection is not ready, or after three failures in a row, and only probes close it again. No
 * request ever waits to find out whether Redis is back.
 */
export class RedisConnection {
  private readonly logger = new Logger('Idempotency');
  private readonly client: Redis | Cluster;
  private readonly breaker: CircuitBreakerPolicy;
  private probe: NodeJS.Timeout | undefined;
  private probeIn = SHORTEST_PROBE;
  private up = false;
  private closed = false;

  constructor(
    application: Redis | Cluster,
    private readonly options: RedisConnectionOptions,
  ) {
    this.client = failFastDuplicate(application, options.timeout);
    this.breaker = circuitBreaker(handleWhen(isUnusable), {
      halfOpenAfter: SHORTEST_PROBE / 2,
      breaker: new ConsecutiveBreaker(FAILURES_TO_OPEN),
    });
    this.breaker.onBreak(() => this.update('it does not answer in time'));
    this.breaker.onReset(() => this.update());
    this.client.on('error', () => undefined); // a lost connection shows in its status
    this.client.on('ready', () => void this.runProbe());
    this.client.on('close', () => this.update('the connection is closed'));
  }

  /** Connects; a Redis that is down does not hold up the start for longer than a second. */
  async open(): Promise<void> {
    const connecting = this.client.connect().then(
      () => this.runProbe(),
      () => undefined, // ioredis goes on trying by itself
    );
    await Promise.race([connecting, delay(SOCKET_TIMEOUT, undefined, { ref: false })]);
    if (!this.up) {
      this.options.onAvailabilityChange(false);
      this.logger.warn('Redis is not available at start: it is bypassed until it answers');
    }
  }

  /** False while Redis is bypassed. */
  get available(): boolean {
    return this.client.status === 'ready' && this.breaker.state === CircuitState.Closed;
  }

  /**
   * Settles within about the time-out, whatever state Redis is in.
   * @throws StoreUnavailableError, at once while Redis is bypassed
   */
  async run<T>(operation: string, command: (client: Redis | Cluster) => Promise<T>): Promise<T> {
    if (!this.available)
      throw new StoreUnavailableError('redis', operation, 'it is bypassed until it answers a probe', false);
    try {
      return await this.breaker.execute(() => command(this.client));
    } catch (error) {
      throw new StoreUnavailableError('redis', operation, error);
    }
  }

  /** Closes within a quarter of a second, frozen or not. */
  async close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.probe);
    if (this.client.status === 'end') return;
    const ended = new Promise<void>((resolve) => this.client.once('end', () => resolve()));
    this.client.disconnect();
    await Promise.race([ended, delay(2 * DISCONNECT_TIMEOUT, undefined, { ref: false })]);
  }

  private update(reason?: string): void {
    const up = this.available;
    if (!up) this.scheduleProbe();
    if (up === this.up || this.closed) return;
    this.up = up;
    this.options.onAvailabilityChange(up);
    if (up) this.logger.log('Redis answers: it is used from now on');
    else this.logger.warn(`Redis is bypassed until it answers again: ${reason ?? 'it is not ready'}`);
  }

  private scheduleProbe(): void {
    if (this.probe || this.closed) return;
    this.probe = setTimeout(() => void this.runProbe(), this.probeIn * (0.75 + Math.random() / 2));
    this.probe.unref();
    this.probeIn = Math.min(this.probeIn * 2, LONGEST_PROBE);
  }

  private async runProbe(): Promise<void> {
    clearTimeout(this.probe);
    this.probe = undefined;
    if (this.closed) return;
    const answered =
      this.client.status === 'ready' &&
      (await this.breaker
        .execute(() => this.client.ping())
        .then(
          () => true,
          () => false,
        ));
    if (answered) this.probeIn = SHORTEST_PROBE;
    this.update();
  }
}

function failFastDuplicate(application: Redis | Cluster, timeout: number): Redis | Cluster {
  const node: Partial<RedisOptions> = {
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    commandTimeout: timeout,
    connectTimeout: SOCKET_TIMEOUT,
    socketTimeout: SOCKET_TIMEOUT,
    disconnectTimeout: DISCONNECT_TIMEOUT,
    reconnectOnError: (error) => error.message.startsWith('READONLY'),
  };
  const retry = (attempt: number): number =>
    Math.min(SHORTEST_PROBE * 2 ** Math.min(attempt - 1, 10), LONGEST_PROBE) * (0.75 + Math.random() / 2);
  if (application instanceof Cluster) {
    return application.duplicate([], {
      redisOptions: { ...application.options.redisOptions, ...node },
      enableOfflineQueue: false,
      enableAutoPipelining: true,
      lazyConnect: true,
      clusterRetryStrategy: retry,
    });
  }
  return application.duplicate({
    ...node,
    enableAutoPipelining: true,
    lazyConnect: true,
    retryStrategy: retry,
  });
}

function isUnusable(error: Error): boolean {
  return error.name !== 'ReplyError' || UNUSABLE.test(error.message);
}
