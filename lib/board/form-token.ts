import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

const COOKIE = 'idempotency-board';
const VALUE = new RegExp(`(?:^|;) *${COOKIE}=([\\w-]{43})(?:;|$)`);

/**
 * Binds the board's forms to the browser that got them: a cookie and a field have to agree. Another site can set
 * neither. Any process of the application can check it, as none has to remember it.
 */
export function newToken(): string {
  return randomBytes(32).toString('base64url');
}

/** Of the browser; undefined if it has none. */
export function tokenOf(request: IncomingMessage): string | undefined {
  return VALUE.exec(request.headers.cookie ?? '')?.[1];
}

/** Without a path, so that the browser takes the one that it sees, also behind a proxy. */
export function cookieOf(token: string, request: IncomingMessage): string {
  return `${COOKIE}=${token}; HttpOnly; SameSite=Lax${isEncrypted(request) ? '; Secure' : ''}`;
}

export function isTokenOf(request: IncomingMessage, given: string | null): boolean {
  const [token, sent] = [tokenOf(request) ?? '', given ?? ''].map((text) => Buffer.from(text));
  return !!token?.length && token.length === sent?.length && timingSafeEqual(token, sent);
}

/** Shows that a change was made for this browser: a link that says so proves nothing. */
export function proofOf(token: string, ...said: readonly string[]): string {
  return createHmac('sha256', token).update(said.join(' ')).digest('base64url').slice(0, 22);
}

function isEncrypted({ headers, socket }: IncomingMessage): boolean {
  const { encrypted } = socket as { readonly encrypted?: boolean };
  return encrypted === true || String(headers['x-forwarded-proto']).startsWith('https');
}
