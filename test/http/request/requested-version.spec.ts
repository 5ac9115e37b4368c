import { VersioningType, type VersioningOptions } from '@nestjs/common';
import type { IncomingMessage } from 'node:http';
import { requestedVersion } from '../../../lib/http/request/requested-version';

const asked = (versioning: VersioningOptions | undefined, headers: Record<string, string> = {}): unknown =>
  requestedVersion({ headers } as unknown as IncomingMessage, versioning);
const mediaType: VersioningOptions = { type: VersioningType.MEDIA_TYPE, key: 'v=' };

describe('the version that a request asks for', () => {
  it('is none without versioning, and where the path says it', () => {
    expect(asked(undefined)).toBeUndefined();
    expect(asked({ type: VersioningType.URI })).toBeUndefined();
  });

  it('is that of the header, in any case', () => {
    expect(asked({ type: VersioningType.HEADER, header: 'X-Version' }, { 'x-version': '2' })).toBe('2');
    expect(asked({ type: VersioningType.HEADER, header: 'X-Version' })).toBeUndefined();
  });

  it('is what the application’s extractor reads', () => {
    const extractor = (request: unknown): string[] => [(request as IncomingMessage).headers.host ?? 'none'];
    expect(asked({ type: VersioningType.CUSTOM, extractor }, { host: 'v3.example.com' })).toEqual([
      'v3.example.com',
    ]);
  });

  it.each([
    ['application/json;v=1', '1'],
    ['application/json; v=1', '1'],
    ['application/json', undefined],
    ['application/json;v=1;q=0.8', 'application/json;v=1;q=0.8'],
    ['application/json;v=1, text/html', 'application/json;v=1, text/html'],
    ['application/json;q=0.8;v=1', 'application/json;q=0.8;v=1'],
  ])('of the media type %s is %s: a longer value that has the key counts in full', (accept, version) => {
    expect(asked(mediaType, { accept })).toBe(version);
  });

  it('of a media type is none where no type is accepted', () => {
    expect(asked(mediaType)).toBeUndefined();
  });
});
