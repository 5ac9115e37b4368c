import { ForbiddenException, Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import type { Request } from 'express';
import { isLocal } from './listen-address';

const LOCAL_NAME = /^(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$/i;
const READS = ['GET', 'HEAD'];

/**
 * Keeps a web page of another site, open in a browser on this machine, from using the sample. That it listens on
 * loopback, and that its default token is in the README, does not keep such a page out.
 */
@Injectable()
export class SameOriginGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<Request>();
    if (isLocal() && !LOCAL_NAME.test(request.headers.host ?? '')) {
      throw new ForbiddenException(
        'The sample listens on this machine alone and answers to its names, such as localhost. To open it to others, set HOST and API_TOKEN.',
      );
    }
    if (!READS.includes(request.method) && comesFromAnotherSite(request)) {
      throw new ForbiddenException('A page of another site sent this request. Use the page of the sample.');
    }
    return true;
  }
}

/** Browsers send these headers, and no script of a page can change them. Other clients send neither. */
function comesFromAnotherSite({ headers }: Request): boolean {
  const { origin, host, 'sec-fetch-site': site = 'none' } = headers;
  if (site !== 'none' && site !== 'same-origin') return true;
  return origin !== undefined && (!URL.canParse(origin) || new URL(origin).host !== host);
}
