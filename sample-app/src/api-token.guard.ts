import { createHash, timingSafeEqual } from 'node:crypto';
import { Injectable, UnauthorizedException, type CanActivate, type ExecutionContext } from '@nestjs/common';

/** For a sample that only this machine can reach. */
export const DEFAULT_TOKEN = 'dev-token';

export function apiToken(): string {
  const { API_TOKEN = '' } = process.env;
  return API_TOKEN === '' ? DEFAULT_TOKEN : API_TOKEN;
}

export function isApiToken(given: string): boolean {
  return timingSafeEqual(digest(given), digest(apiToken()));
}

/**
 * Lets the webhook's sender in, and says who it is: idempotency keys belong to `request.user`, so that two
 * senders' equal keys never meet.
 */
@Injectable()
export class ApiTokenGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context
      .switchToHttp()
      .getRequest<{ headers: Record<string, string | undefined>; user?: { id: string } }>();
    const [, given = ''] = /^Bearer (.*)$/.exec(request.headers.authorization ?? '') ?? [];
    if (!isApiToken(given)) {
      throw new UnauthorizedException('Send the header Authorization: Bearer <API_TOKEN>');
    }
    request.user = { id: 'leados' };
    return true;
  }
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
