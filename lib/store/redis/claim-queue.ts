import { OverloadedError, StoreUnavailableError } from '../../core/errors';
import { Batcher } from '../batching/batcher';
import type { Reply } from './evaluate';
import type { RedisConnection } from './connection/redis.connection';

/** Claims under way at once: what Redis does in about a millisecond, so that a renewal behind them hardly waits. */
const IN_FLIGHT = 64;

type Ask = () => Promise<Reply>;

/**
 * Where Redis is the arbiter, its one connection carries claims, renewals and outcomes: a flood of claims waits here, so
 * that the others do not wait behind it.
 */
export class ClaimQueue {
  private readonly batcher: Batcher<Ask, Reply>;

  constructor(connection: RedisConnection, max = Infinity) {
    this.batcher = new Batcher<Ask, Reply>({
      send: (asks, { onStart, onSend, onResults, onError }) => {
        onStart();
        onSend();
        Promise.all(asks.map((ask) => ask())).then(onResults, onError);
      },
      bytesOf: () => 0,
      isRefusal: () => false,
      expired: (sent) =>
        sent || !connection.available
          ? new StoreUnavailableError('redis', 'claim', new Error('no answer in time'), sent)
          : new OverloadedError('redis', 'claim', 'claims_late'),
      timeout: connection.timeout,
      bounds: { items: 1, bytes: 1, inFlight: IN_FLIGHT },
      queue: { max, full: () => new OverloadedError('redis', 'claim', 'claims_queued') },
    });
  }

  add(ask: Ask): Promise<Reply> {
    return new Promise((resolve, reject) => this.batcher.add(ask, resolve, reject));
  }
}
