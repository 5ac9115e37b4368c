import { VersioningType, type VersioningOptions } from '@nestjs/common';
import type { IncomingMessage } from 'node:http';

/** The version that a request asks for, unless by its path: two versions of a route are two different requests. */
export function requestedVersion(
  request: IncomingMessage,
  versioning: VersioningOptions | undefined,
): string | readonly string[] | undefined {
  switch (versioning?.type) {
    case VersioningType.HEADER:
      return request.headers[versioning.header.toLowerCase()];
    case VersioningType.MEDIA_TYPE:
      return request.headers.accept
        ?.split(';')
        .find((parameter) => parameter.includes(versioning.key))
        ?.trim();
    case VersioningType.CUSTOM:
      return versioning.extractor(request);
    case VersioningType.URI:
    case undefined:
      return undefined;
  }
}
