import type { ExecutionContext } from '@nestjs/common';
import type { ProtectedRequest } from '../../core/claimed-executions';
import type { RecordId } from '../../core/record';
import type { Policy } from '../../core/policy';
import { rawResponse, requestOf, responseOf } from '../platform';
import { bytesHeld } from './request-size';

/** A request to a protected route, by what the protocol has to know of it. */
export class HttpRequest implements ProtectedRequest {
  constructor(
    readonly id: RecordId,
    readonly fingerprint: string,
    readonly policy: Policy,
    private readonly context: ExecutionContext,
  ) {}

  get name(): string {
    return `${this.context.getClass().name}.${this.context.getHandler().name}`;
  }

  bytes(): number {
    return bytesHeld(requestOf(this.context));
  }

  onClientLeft(listener: () => void): () => void {
    const response = rawResponse(responseOf(this.context));
    if (response.destroyed) listener();
    response.once('close', listener);
    return () => response.removeListener('close', listener);
  }
}
