import type { Client } from 'pg';
import { performance } from 'node:perf_hooks';
import { deadlines, type Deadline } from '../core/deadlines';
import { isLate } from '../store/batching/late';
import { cancelStatement } from '../store/postgres/connection/cancel';
import { DeadlineError, failureOf, type Failure } from '../store/postgres/connection/failures';
import { destroySocket } from '../store/postgres/connection/pool';
import type { PipelinedStatement } from './messages';
import { canPipeline, Pipeline, type OnEnd, type StatementResult } from './pipeline';
import { Sequence } from './sequence';

/** Statements were sent, and not all were executed. */
export class RoundTripError extends Error {
  readonly failure: Failure;

  /**
   * @param results of the statements that were executed: the next one failed, or the connection did
   * @param sent whether they may have reached the server
   */
  constructor(
    override readonly cause: unknown,
    readonly results: readonly StatementResult[],
    readonly sent: boolean,
  ) {
    super(cause instanceof Error ? cause.message : String(cause));
    this.name = 'RoundTripError';
    this.failure = failureOf(cause);
  }
}

/** Waits for the answer to a pipeline, but not without end: at its deadline the connection is cut off. */
class RoundTrip implements Deadline {
  dueAt: number;
  private extended = false;

  constructor(
    private readonly client: Client,
    private readonly timeout: number,
    private readonly onDeadline: (error: DeadlineError) => void,
  ) {
    this.dueAt = performance.now() + timeout;
  }

  expire(late: number): void {
    if (!this.extended && isLate(late, this.timeout)) {
      this.extended = true;
      this.dueAt = performance.now() + this.timeout;
      return;
    }
    void cancelStatement(this.client);
    destroySocket(this.client);
    this.onDeadline(new DeadlineError('the statement', this.timeout));
  }
}

/**
 * @param failed told of an error first
 * @throws RoundTripError (as a rejection)
 */
export function roundTrip(
  client: Client,
  statements: readonly PipelinedStatement[],
  timeout: number,
  failed: (failure: Failure) => void,
): Promise<readonly StatementResult[]> {
  return new Promise((resolve, reject) => {
    const onEnd: OnEnd = (cause, results, sent) => {
      deadlines.delete(trip);
      if (cause === undefined) return resolve(results);
      const error = new RoundTripError(cause, results, sent);
      failed(error.failure);
      reject(error);
    };
    const sending = new (canPipeline(client) ? Pipeline : Sequence)(client, statements, onEnd);
    const trip = new RoundTrip(client, timeout, sending.callback);
    deadlines.add(trip);
    sending.send();
  });
}
