import { HttpException, Inject, Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import type { IncomingMessage } from 'node:http';
import { rawRequest, requestOf } from '../http/platform';
import { SafeLogger } from '../observability/safe-logger';
import type { BoardOptions } from './board.options';

export const BOARD_OPTIONS = Symbol('nestjs-idempotency:board-options');

/** A request that may pass. */
export interface Visit {
  readonly access: 'full' | 'read';
  readonly context: ExecutionContext;
}

const visits = new WeakMap<IncomingMessage, Visit>();

/** Undefined for a request that the guard has not let pass. */
export function visitOf(request: IncomingMessage): Visit | undefined {
  return visits.get(request);
}

/** Asks the option `access`. What it does not say in so many words is denied. */
@Injectable()
export class AccessGuard implements CanActivate {
  private readonly logger = new SafeLogger('Idempotency');

  constructor(@Inject(BOARD_OPTIONS) private readonly options: BoardOptions) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const access: unknown = await this.access(context);
    if (access !== 'full' && access !== 'read') return false;
    visits.set(rawRequest(requestOf(context)), { access, context });
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
