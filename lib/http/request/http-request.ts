import type { ExecutionContext } from '@nestjs/common';
import type { ProtectedRequest } from '../../core/work';
import type { Outcome, RecordId } from '../../core/record';
import type { Policy } from '../../core/policy';
import { lookUpLegacy } from '../../legacy/legacy-lookup';
import { legacyResponse } from '../../legacy/legacy-outcome';
import type { RouteOptions } from '../../options/resolve';
import { onceClosed } from '../closed';
import { rawResponse, requestOf, responseOf, routeName } from '../platform';
import { bytesHeld } from './request-size';
import { routePattern } from './target';

/** A request to a protected route, by what the protocol has to know of it. */
export class HttpRequest implements ProtectedRequest {
  constructor(
    readonly id: RecordId,
    readonly fingerprint: string,
    private readonly route: RouteOptions,
    private readonly context: ExecutionContext,
  ) {}

  get policy(): Policy {
    return this.route.policy;
  }

  get legacy(): ProtectedRequest['legacy'] {
    const { legacy } = this.route;
    return legacy && ((): Promise<Outcome | undefined> => this.lookUp(legacy));
  }

  get routePattern(): string | undefined {
    return routePattern(requestOf(this.context));
  }

  get name(): string {
    return routeName(this.context);
  }

  bytes(): number {
    return bytesHeld(requestOf(this.context));
  }

  private lookUp(legacy: NonNullable<RouteOptions['legacy']>): Promise<Outcome | undefined> {
    const { keepsHeader, policy } = this.route;
    return lookUpLegacy(legacy, {
      name: this.name,
      lease: policy.lease,
      ask: () => legacy.lookup(this.id.key, this.context),
      outcomeOf: (answer) => legacyResponse(answer, keepsHeader),
    });
  }

  onClientLeft(listener: () => void): () => void {
    return onceClosed(rawResponse(responseOf(this.context)), listener);
  }
}
