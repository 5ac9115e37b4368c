import { Logger } from '@nestjs/common';
import {
  circuitBreaker,
  CircuitState,
  ConsecutiveBreaker,
  handleWhen,
  type CircuitBreakerPolicy,
} from 'cockatiel';
import { inBackground } from '../../../core/background';
import { StoreUnavailableError } from '../../../core/errors';
import { settledWithin } from '../../../core/settled-within';
import { News } from '../../../observability/news';
import { Answer } from './answer';
import { Backoff } from '../../../core/backoff';
import { DISCONNECT_TIMEOUT, failFastDuplicate, isCluster, type RedisClient } from './fail-fast.client';
import { isFailureOfRedis, refusalOf } from './refusals';
import { WriteCoalescer } from './write-coalescer';
import { RedisClock } from './redis.clock';

export interface RedisConnectionOptions {
  /** Milliseconds after which an operation counts as failed. @default 250 */
  readonly timeout?: number;
  /** Told whenever Redis is used again, or bypassed from now on. */
  readonly onAvailabilityChange?: (up: boolean) => void;
}

const DEFAULT_TIMEOUT = 250;
const FAILURES_TO_OPEN = 3;
const START_TIMEOUT = 1_000;

/**
 * A dedicated connection that fails fast, duplicated from the application's own, behind a circuit breaker: Redis is
 * bypassed as soon as the connection is lost, or after three failures in a row, and only a probe of our own brings it
 * back. No request ever waits to find out whether Redis is there.
 */
export class RedisConnection {
  /** Redis' clock, as last seen. */
  readonly clock = new RedisClock();
  readonly timeout: number;
  private readonly logger = new Logger('Idempotency');
  private readonly onAvailabilityChange: (up: boolean) => void;
  private readonly client: RedisClient;
  private readonly writes: WriteCoalescer | undefined;
  private readonly breaker: CircuitBreakerPolicy;
  private readonly probePause = new Backoff();
  private readonly connectPause = new Backoff();
  private readonly refusals = new News();
  private probeTimer: NodeJS.Timeout | undefined;
  private underWay = 0;
  private probing: Promise<void> | undefined;
  /** Whether what the breaker was told last is a failure. */
  private failing = false;
  /** Whether this connection, since it was made, has answered a probe. */
  private proven = false;
  private up = false;
  private warned = false;
  private closed = false;

  /** @param application the application's client; it is only looked at, never used or closed */
  constructor(application: RedisClient, options: RedisConnectionOptions = {}) {
    this.timeout = options.timeout ?? DEFAULT_TIMEOUT;
    this.onAvailabilityChange = options.onAvailabilityChange ?? (() => undefined);
    this.client = failFastDuplicate(application, this.timeout, () => this.connectPause.next());
    if (!isCluster(this.client)) this.writes = new WriteCoalescer(this.client);
    this.breaker = circuitBreaker(handleWhen(isFailureOfRedis), {
      // When to probe is decided here, not by cockatiel, which would go by a wall clock that may be set back.
      halfOpenAfter: Number.NEGATIVE_INFINITY,
      breaker: new ConsecutiveBreaker(FAILURES_TO_OPEN),
    });
    this.breaker.onBreak(() => inBackground(() => this.giveUpConnection()));
    // That there is one shows in the connection's status.
    this.client.on('error', (error) => this.reportRefusal('the connection', error));
    this.client.on('ready', () => void this.probeNewConnection());
    this.client.on('close', () => this.lose('the connection is closed'));
    this.client.on('end', () => this.lose('the connection has ended'));
  }

  /** Connects. A Redis that is down holds the start up for a second at most, and is picked up when it comes. */
  async open(): Promise<void> {
    const connected = this.client.connect().then(
      () => this.probe(),
      () => undefined, // ioredis goes on trying
    );
    await settledWithin(connected, START_TIMEOUT);
    if (this.up || this.closed) return;
    this.onAvailabilityChange(false);
    this.warn('Redis is not available at start: it is bypassed until it answers');
    this.scheduleProbe();
  }

  get isCluster(): boolean {
    return isCluster(this.client);
  }

  /** False while Redis is bypassed. */
  get available(): boolean {
    return this.proven && this.client.status === 'ready' && this.breaker.state === CircuitState.Closed;
  }

  /**
   * Runs one operation, which settles within the time-out in every state of Redis.
   * @throws StoreUnavailableError, at once while Redis is bypassed; whether the operation took effect is unknown
   */
  run<T>(operation: string, command: (client: RedisClient) => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => this.send(operation, command, resolve, reject));
  }

  /** As `run`; one of the two callbacks is called, once. */
  send<T>(
    operation: string,
    command: (client: RedisClient) => Promise<T>,
    resolve: (answer: T) => void,
    reject: (error: StoreUnavailableError) => void,
  ): void {
    if (!this.available) {
      const reason = 'it is bypassed until it answers a probe';
      return reject(new StoreUnavailableError('redis', operation, reason, false));
    }
    this.writes?.gather(this.underWay > 0);
    this.underWay += 1;
    const answered = (answer: T): void => {
      this.underWay -= 1;
      // To tell of each success costs more than to decode a record, and it is news only after a failure.
      if (this.failing) void this.tell().then(() => resolve(answer));
      else resolve(answer);
    };
    const failed = (error: unknown): void => {
      this.underWay -= 1;
      this.reportRefusal(operation, error);
      const unavailable = new StoreUnavailableError('redis', operation, withoutArguments(error));
      if (!isFailureOfRedis(error)) return reject(unavailable);
      void this.tell(error).then(() => {
        this.suspect();
        reject(unavailable);
      });
    };
    this.inTime(command, answered, failed);
  }

  /** Tells the breaker what became of a command, unless it has opened meanwhile: then only a probe counts. */
  private async tell(failure?: Error): Promise<void> {
    this.failing = failure !== undefined;
    if (this.breaker.state !== CircuitState.Closed) return;
    const outcome = (): void => {
      if (failure) throw failure;
    };
    await this.breaker.execute(outcome).catch(() => undefined);
  }

  /**
   * Asks Redis for a sign of life, over the path that requests take.
   * @throws StoreUnavailableError
   */
  async ping(): Promise<void> {
    await this.run('ping', (client) => client.ping());
  }

  /** Closes our connection within a fraction of a second, also to a Redis that is frozen. */
  async close(): Promise<void> {
    this.closed = true;
    this.proven = false;
    clearTimeout(this.probeTimer);
    if (this.client.status === 'end') return;
    const ended = new Promise<void>((resolve) => this.client.once('end', resolve));
    this.client.disconnect();
    await settledWithin(ended, 2 * DISCONNECT_TIMEOUT);
  }

  /** Finds out at once what is wrong, instead of at the expense of the next requests. */
  private suspect(): void {
    if (this.available) void inBackground(() => this.probe());
  }

  private lose(reason: string): void {
    this.proven = false;
    this.update(reason);
  }

  /** The breaker has opened: the connection may be dead without knowing it. A cluster looks after its nodes itself. */
  private giveUpConnection(): void {
    if (!this.closed && !isCluster(this.client) && this.client.status === 'ready')
      this.client.disconnect(true);
    this.update('it does not answer in time');
  }

  private update(reason = 'it is not ready'): void {
    if (this.closed) return;
    const up = this.available;
    if (!up) this.scheduleProbe();
    if (up === this.up) return;
    this.up = up;
    this.onAvailabilityChange(up);
    if (!up) this.warn(`Redis is bypassed until it answers again: ${reason}`);
    else if (this.warned) this.logger.log('Redis answers again: it is used from now on');
  }

  /** Once for each reason: each request may meet it. */
  private reportRefusal(what: string, error: unknown): void {
    const refusal = refusalOf(error);
    if (refusal && !this.closed && this.refusals.isNew(refusal))
      this.logger.warn(`Redis refused ${what}: ${refusal}`);
  }

  private warn(message: string): void {
    this.warned = true;
    this.logger.warn(message);
  }

  private scheduleProbe(): void {
    if (this.probeTimer || this.closed) return;
    const due = (): void => {
      this.probeTimer = undefined;
      void this.probe();
    };
    this.probeTimer = inBackground(() => setTimeout(due, this.probePause.next()));
    this.probeTimer.unref();
  }

  private async probeNewConnection(): Promise<void> {
    await this.probe();
    // The probe that was under way may have been lost with the connection before.
    if (!this.proven) await this.probe();
  }

  /** Never rejects. One that is under way serves all callers. */
  private probe(): Promise<void> {
    this.probing ??= this.runProbe().finally(() => (this.probing = undefined));
    return this.probing;
  }

  private async runProbe(): Promise<void> {
    if (this.closed) return;
    // ioredis gives up for good when, for example, no Sentinel can be reached.
    if (this.client.status === 'end') this.client.connect().catch(() => undefined);
    // A connection that is thought to be good gets as many tries as the breaker grants, one after the other.
    let answered = await this.answers();
    while (
      answered === 'no' &&
      this.client.status === 'ready' &&
      this.breaker.state === CircuitState.Closed
    ) {
      answered = await this.answers();
    }
    if (answered === 'yes') this.proven = true;
    this.update();
  }

  /** `refused`: the breaker does not count it, so to ask again at once would go on without end. */
  private async answers(): Promise<'yes' | 'no' | 'refused'> {
    if (this.client.status !== 'ready') return 'no';
    try {
      await this.breaker.execute(() => this.askTime());
      return 'yes';
    } catch (error) {
      this.failing = true;
      this.reportRefusal('a probe', error);
      return refusalOf(error) && !isFailureOfRedis(error) ? 'refused' : 'no';
    }
  }

  /** TIME is as cheap as PING, and shows the clock that deadlines go by. */
  private async askTime(): Promise<void> {
    const [seconds, microseconds] = await new Promise<(string | number)[]>((resolve, reject) =>
      this.inTime((client) => client.time(), resolve, reject),
    );
    this.clock.show(Number(seconds) * 1000 + Math.floor(Number(microseconds) / 1000));
  }

  private inTime<T>(
    command: (client: RedisClient) => Promise<T>,
    onValue: (value: T) => void,
    onError: (error: unknown) => void,
  ): void {
    const answer = new Answer<T>(this.timeout, onValue, onError);
    try {
      answer.await(command(this.client));
    } catch (error) {
      onError(error);
    }
  }
}

/** ioredis hangs the command's arguments on its errors, and with them keys and bodies, which do not belong in logs. */
function withoutArguments(error: unknown): unknown {
  if (error instanceof Error && 'command' in error) delete error.command;
  return error;
}
