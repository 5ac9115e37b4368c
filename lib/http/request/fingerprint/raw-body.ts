import type { ExecutionContext } from '@nestjs/common';
import { bodyOf, rawRequest, requestOf } from '../../platform';
import { target } from '../target';
import { keptBytes, wasSent } from './request-body';
import { spellBytes } from './spelling';

const NO_BYTES = new Uint8Array();

/**
 * For the `fingerprint` option: a retry must have the same query and exactly the same bytes as body. It needs the bytes:
 * `NestFactory.create(AppModule, { rawBody: true })`.
 * @returns a function that throws TypeError (500) for a body whose bytes are not kept
 */
export function rawBody(): (context: ExecutionContext) => string {
  return function rawBody(context) {
    const request = requestOf(context);
    const bytes = keptBytes(request.rawBody) ?? NO_BYTES;
    if (bytes === NO_BYTES && wasSent(rawRequest(request), bodyOf(request) ?? null))
      throw new TypeError(
        'rawBody() needs the bytes of the body, and this request has a body without them. Create the application with ' +
          '`rawBody: true`; the bytes of multipart and of other parsers are not kept.',
      );
    return `${target(request).query}\n${spellBytes('raw', bytes)}`;
  };
}
