import { rawBody } from '../../../../lib';
import { contextOf } from '../../../support/request-context';

const request = (rawBytes: unknown, more: object = {}) => ({
  method: 'POST',
  url: '/hooks',
  headers: { 'content-length': '2' },
  rawHeaders: [],
  body: {},
  rawBody: rawBytes,
  ...more,
});
const fingerprint = (...args: Parameters<typeof request>) => rawBody()(contextOf(request(...args)));

describe('a fingerprint of the raw body', () => {
  it('is equal for equal bytes alone', () => {
    expect(fingerprint(Buffer.from('{"a":1}'))).toBe(fingerprint(Buffer.from('{"a":1}')));
    expect(fingerprint('{"a":1}')).toBe(fingerprint(Buffer.from('{"a":1}'))); // as plugins of Fastify keep it
    for (const other of ['{"a": 1}', '{"a":1.0}', '{"a":2}', ''])
      expect(fingerprint(Buffer.from(other))).not.toBe(fingerprint(Buffer.from('{"a":1}')));
  });

  it('has the query, and not the path: that is in the scope', () => {
    const bytes = Buffer.from('{}');
    const at = (url: string) => fingerprint(bytes, { url });
    expect(at('/hooks?a=1')).not.toBe(at('/hooks?a=2'));
    expect(at('/hooks?a=1')).toBe(at('/other?a=1'));
  });

  it('is that of no bytes where the request has no body', () => {
    const bodiless = fingerprint(undefined, { headers: {}, body: undefined });
    expect(bodiless).toBe(fingerprint(Buffer.alloc(0)));
    expect(fingerprint(undefined, { headers: { 'content-length': '0' } })).toBe(bodiless);
  });

  it('is an error of the application where the bytes of a body are not kept', () => {
    expect(() => fingerprint(undefined)).toThrow(TypeError);
    expect(() => fingerprint(undefined, { headers: { 'transfer-encoding': 'chunked' } })).toThrow(
      /needs the bytes of the body.*`rawBody: true`/,
    );
  });
});
