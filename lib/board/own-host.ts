import type { IncomingMessage } from 'node:http';

/** Names of this machine, which no other site can have. */
const LOCAL = /^(?:(?:[\w-]+\.)*localhost\.?|127(?:\.\d{1,3}){3}|\[::1\])$/;
const LOOPBACK = /^(?:127\.|::1$|::ffff:127\.)/;

/**
 * Whether a request names a host that is the board's. A page whose name was pointed at this machine (DNS rebinding) is
 * of the same origin as the board to its browser, and only the name tells it.
 *
 * Without `hosts`, a request that comes over loopback has to name this machine. Browsers send `Sec-Fetch-Site` over
 * HTTPS and to local names alone, and no page can set it: there, the name was proven.
 */
export function isOwnHost(
  { headers, socket }: Pick<IncomingMessage, 'headers' | 'socket'>,
  hosts: readonly string[] | undefined,
): boolean {
  const named = String(headers[':authority'] ?? headers.host ?? '').toLowerCase();
  const name = named.replace(/:\d+$/, '');
  if (hosts) return hosts.some((host) => [named, name].includes(host.toLowerCase()));
  if (headers['sec-fetch-site'] !== undefined) return true;
  return !LOOPBACK.test(socket.localAddress ?? '') || LOCAL.test(name);
}
