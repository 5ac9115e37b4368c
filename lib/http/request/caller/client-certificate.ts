import type { HttpAdapterHost } from '@nestjs/core';
import type { TLSSocket } from 'node:tls';
import { isHttp2 } from '../../platform';

/** Among credentials: no header can have this name. */
export const CLIENT_CERTIFICATE = ':client-certificate';

/** Node's, with or without TLS. */
type Connection = Partial<Pick<TLSSocket, 'getPeerX509Certificate' | 'authorized' | 'destroyed'>> & {
  readonly server?: { readonly requestCert?: boolean };
};

/** What was found while the connection was open: a closed one has no certificate any more. */
const found = new WeakMap<object, string | null>();

/**
 * Who the caller is by its certificate, where Node itself ends TLS and asks for one. Those that are verified count by
 * what they say, so that a renewed one is the same caller. Others can say anything, and count by their digest.
 * @throws TypeError if the connection is closed, and it is not known whether its client had one
 */
export function clientCertificate(connection: Connection | undefined): string | undefined {
  if (!connection?.getPeerX509Certificate) return undefined;
  const known = found.get(connection);
  if (known) return known;
  if (connection.destroyed) {
    if (known === undefined && connection.server?.requestCert) throw clientLeft();
    return undefined;
  }
  const certificate = connection.getPeerX509Certificate();
  const { issuer, subject = '', subjectAltName = '', fingerprint256 } = certificate ?? {};
  const named = connection.authorized && subject + subjectAltName !== '';
  const text = named ? [issuer, subject, subjectAltName].join('\n\n') : fingerprint256;
  found.set(connection, text ?? null);
  return text;
}

/**
 * Over HTTP/2, a request that its client has given up knows its connection no more: it would be one without a
 * certificate.
 * @throws TypeError where the server asks for certificates
 */
export function assertConnected(request: object, { httpAdapter }: HttpAdapterHost): void {
  if (!isHttp2(request) || !request.stream.destroyed) return;
  const server = httpAdapter.getHttpServer() as Connection['server'];
  if (server?.requestCert) throw clientLeft();
}

function clientLeft(): TypeError {
  return new TypeError(
    'The client has left before its certificate was looked at, so its request has no scope and is not carried out. ' +
      'Let it send the request again.',
  );
}
