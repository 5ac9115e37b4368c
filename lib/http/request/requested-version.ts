import { VersioningType, type VersioningOptions } from '@nestjs/common';
import type { IncomingMessage } from 'node:http';

/** The version that a request asks for, unless by its path: two versions of a route are two resources. */
export function requestedVersion(
  request: IncomingMessage,
  versioning: VersioningOptions | undefined,
): string | readonly string[] | undefined {
  switch (versioning?.type) {
    case VersioningType.HEADER:
      return request.headers[versioning.header.toLowerCase()];
    case VersioningType.MEDIA_TYPE:
      return mediaTypeVersion(request.headers.accept, versioning.key);
    case VersioningType.CUSTOM:
      return versioning.extractor(request);
    case VersioningType.URI:
    case undefined:
      return undefined;
  }
}

/**
 * `1` of `application/json;v=1`. Releases of Nest differ in what they read from longer values, so a longer one that has
 * the key counts in full.
 */
function mediaTypeVersion(accept: string | undefined, key: string): string | undefined {
  if (!accept?.includes(key)) return undefined;
  const [, parameter = '', ...rest] = accept.split(';');
  const version = parameter.trim();
  const alone = rest.length === 0 && version.startsWith(key) && !/[,"]/.test(accept);
  return alone ? version.slice(key.length) : accept;
}
