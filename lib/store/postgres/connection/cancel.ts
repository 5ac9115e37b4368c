import { once } from 'node:events';
import { connect } from 'node:net';
import type { Client } from 'pg';

const CANCEL_REQUEST_CODE = 80_877_102;
const GIVE_UP_AFTER = 1_000;

/**
 * Asks Postgres to end the statement that this client waits for. Closing the socket alone does not: a backend that
 * waits for a lock does not notice, and during a long lock one more would pile up for each statement that timed
 * out, until `max_connections` is reached. Best effort: it never throws, holds nothing open, and where a proxy
 * ignores it, nothing is lost.
 * @returns once Postgres has been asked, or cannot be
 */
export async function cancelStatement(client: Client): Promise<void> {
  // Known to pg since 8.0 but missing in its types: the key that the server gave us for this purpose.
  const { processID, secretKey, host, port } = client as Client & Record<'processID' | 'secretKey', unknown>;
  if (typeof processID !== 'number' || typeof secretKey !== 'number') return;

  const request = Buffer.alloc(16);
  request.writeInt32BE(request.length, 0);
  request.writeInt32BE(CANCEL_REQUEST_CODE, 4);
  request.writeInt32BE(processID, 8);
  request.writeInt32BE(secretKey, 12);

  const socket = connect(host.startsWith('/') ? { path: `${host}/.s.PGSQL.${port}` } : { host, port });
  socket.unref();
  socket.setTimeout(GIVE_UP_AFTER, () => socket.destroy());
  socket.on('error', () => socket.destroy());
  socket.end(request);
  await once(socket, 'close').catch(() => undefined);
}
