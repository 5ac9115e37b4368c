import { UnauthorizedException, type ExecutionContext } from '@nestjs/common';
import type { Request, Response } from 'express';
import type { BoardAccess } from 'nestjs-idempotency/board';
import { isApiToken } from '../api-token.guard';
import { isLocal } from '../listen-address';

/**
 * Lets this machine in, and others with the token. A link sends no Bearer token, so their browser asks for a name and
 * a password.
 * @throws UnauthorizedException to others without the token
 */
export function boardAccess(context: ExecutionContext): BoardAccess {
  const http = context.switchToHttp();
  if (isLocal() || isApiToken(passwordOf(http.getRequest<Request>()))) return 'full';
  http.getResponse<Response>().setHeader('WWW-Authenticate', 'Basic realm="The token is the password"');
  throw new UnauthorizedException('Log in with any name, and API_TOKEN as the password');
}

function passwordOf({ headers: { authorization = '' } }: Request): string {
  const [, credentials = ''] = /^Basic (.*)$/i.exec(authorization) ?? [];
  return Buffer.from(credentials, 'base64')
    .toString()
    .replace(/^[^:]*:/, '');
}
