import type { ExecutionContext } from '@nestjs/common';
import type { ProtectedRequest } from '../../core/claimed-executions';
import type { RecordId } from '../../core/record';
import type { Policy } from '../../core/policy';
import { rawRequest, rawResponse, type PlatformRequest, type PlatformResponse } from '../platform';

/** A request to a protected route, by what the protocol has to know of it. */
export class HttpRequest implements ProtectedRequest {
  constructor(
    readonly id: RecordId,
    readonly fingerprint: string,
    readonly policy: Policy,
    private readonly context: ExecutionContext,
  ) {}

  /** As its client says, else all that its connection has brought. */
  bytes(): number {
    const request = rawRequest(this.context.switchToHttp().getRequest<PlatformRequest>());
    const announced = request.headers['content-length'];
    return announced === undefined ? request.socket.bytesRead : Number(announced) || 0;
  }

  onClientLeft(listener: () => void): () => void {
    const response = rawResponse(this.context.switchToHttp().getResponse<PlatformResponse>());
    if (response.destroyed) listener();
    response.once('close', listener);
    return () => response.removeListener('close', listener);
  }
}
