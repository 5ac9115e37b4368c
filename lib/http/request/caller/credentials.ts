import type { IncomingMessage } from 'node:http';
import type { Digest } from '../../../core/digest';
import { valuesOf } from '../header-values';
import { lastsForRetries } from './authorization';
import { CLIENT_CERTIFICATE, clientCertificate } from './client-certificate';
import { sessionCookies } from './cookies';
import { kindOf } from './credential-headers';

/** What is read of a request for its credentials. */
export type RequestHead = Pick<IncomingMessage, 'headers' | 'rawHeaders'> & {
  readonly socket?: IncomingMessage['socket'];
};

/** What a request brings along to prove who its caller is, each header with its values, sorted by name. */
export type Credentials = readonly (readonly [header: string, ...values: string[]])[];

export interface CredentialRules {
  /** Headers that carry the key. */
  readonly headers: readonly string[];
  /** Matches what the `credentialHeaders` option names. */
  readonly credentialHeaders: RegExp | undefined;
}

export interface FoundCredentials {
  /** Those that a retry brings along as they are. */
  readonly lasting: Credentials;
  /** Whether there are others, which are made anew for each request. */
  readonly perRequest: boolean;
}

/**
 * All credentials of a request count together: one that many callers share (an API key, a site's Basic password) must
 * not hide the one that is the caller's own, such as a session cookie.
 */
export function credentialsOf(head: RequestHead, rules: CredentialRules): FoundCredentials {
  const { headers, socket } = head;
  const lasting: [string, ...string[]][] = [];
  let perRequest = false;
  for (const name in headers) {
    const kind = kindFor(name, rules);
    if (kind === 'other') continue;
    const values = kind === 'per-request' ? [] : lastingValues(name, valuesOf(head, name));
    if (values.length > 0) lasting.push([name, ...values]);
    else if (name !== 'cookie' && headers[name] !== '') perRequest = true;
  }
  const certificate = clientCertificate(socket);
  if (certificate !== undefined) lasting.push([CLIENT_CERTIFICATE, certificate]);
  return { lasting: lasting.sort(([a], [b]) => (a < b ? -1 : 1)), perRequest };
}

/** The one place where credentials are hashed. */
export function digestOf(credentials: Credentials, digest: Digest): string {
  return digest.credentialsOf(JSON.stringify(credentials));
}

function kindFor(name: string, { headers, credentialHeaders }: CredentialRules): ReturnType<typeof kindOf> {
  if (name === 'cookie' || name === CLIENT_CERTIFICATE) return 'credential';
  for (const each of headers) if (each.length === name.length && each.toLowerCase() === name) return 'other';
  return credentialHeaders?.test(name) ? 'credential' : kindOf(name);
}

function lastingValues(name: string, values: readonly string[]): string[] {
  if (name === 'cookie') return values.flatMap(sessionCookies).sort();
  const given = values.filter((value) => value !== '').sort();
  return name.endsWith('authorization') ? given.filter(lastsForRetries) : given;
}
