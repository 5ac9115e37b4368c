import {
  ForbiddenException,
  HttpException,
  Inject,
  Injectable,
  type CanActivate,
  type ExecutionContext,
} from '@nestjs/common';
import type { IncomingMessage } from 'node:http';
import { rawRequest, requestOf } from '../http/platform';
import { SafeLogger } from '../observability/safe-logger';
import type { BoardOptions } from './board.options';
import { isOwnHost } from './own-host';

export const BOARD_OPTIONS = Symbol('nestjs-idempotency:board-options');

/** A request that may pass. */
export interface Visit {
  readonly access: 'full' | 'read';
  readonly context: ExecutionContext;
}

const FOREIGN_HOST =
  'The board does not answer to this Host. List the names that it is reached by in the option `hosts` of the board.';

const visits = new WeakMap<IncomingMessage, Visit>();

/** Undefined for a request that the guard has not let pass. */
export function visitOf(request: IncomingMessage): Visit | undefined {
  return visits.get(request);
}

/** Looks at the host, then asks the option `access`. What it does not say in so many words is denied. */
@Injectable()
export class AccessGuard implements CanActivate {
  private readonly logger = new SafeLogger('Idempotency');

  constructor(@Inject(BOARD_OPTIONS) private readonly options: BoardOptions) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = rawRequest(requestOf(context));
    if (!isOwnHost(request, this.options.hosts)) throw new ForbiddenException(FOREIGN_HOST);
    const access: unknown = await this.access(context);
    if (access !== 'full' && access !== 'read') return false;
    visits.set(request, { access, context });
    return true;
  }

  private async access(context: ExecutionContext): Promise<unknown> {
    try {
      return await this.options.access(context);
    } catch (error) {
      if (error instanceof HttpException) throw error;
      this.logger.error('The option `access` of the board failed, so the request was denied', error);
      return false;
    }
  }
}
