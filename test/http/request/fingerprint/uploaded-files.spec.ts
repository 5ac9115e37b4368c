import type { PlatformRequest } from '../../../../lib/http/platform';
import { spelledFiles } from '../../../../lib/http/request/fingerprint/uploaded-files';

const of = (request: object): string | undefined => spelledFiles(request as unknown as PlatformRequest);
const file = {
  fieldname: 'cv',
  originalname: 'cv.pdf',
  mimetype: 'application/pdf',
  buffer: Buffer.from('a'),
};

describe('uploaded files', () => {
  it('are none where middleware has left none, or something else under their names', () => {
    for (const request of [{}, { files: [] }, { files: {} }, { file: 'cv.pdf' }, { files: () => [] }])
      expect(of(request)).toBeUndefined();
  });

  it('are compared by what was sent, not by the place of their copy on disk', () => {
    const stored = { ...file, path: '/tmp/1', filename: '1', destination: '/tmp' };
    expect(of({ file: stored })).toBe(of({ file: { ...stored, path: '/tmp/2', filename: '2' } }));
    for (const other of [{ originalname: 'b.pdf' }, { mimetype: 'text/plain' }, { buffer: Buffer.from('b') }])
      expect(of({ file: { ...stored, ...other } })).not.toBe(of({ file: stored }));
  });

  it('are told by their order in a list, and by their field', () => {
    const second = { ...file, originalname: 'second.pdf' };
    expect(of({ files: [file, second] })).not.toBe(of({ files: [second, file] }));
    expect(of({ files: { a: [file], b: [second] } })).not.toBe(of({ files: { a: [second], b: [file] } }));
    expect(of({ files: { a: file } })).not.toBe(of({ files: [file] }));
  });

  it('are found on Node’s request behind Fastify’s too', () => {
    expect(of({ raw: { file } })).toBe(of({ file }));
    expect(of({ raw: { files: [file] } })).toBe(of({ files: [file] }));
  });
});
