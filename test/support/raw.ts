import { connect } from 'node:net';

/** What came back for a request that was written byte by byte. */
export interface RawAnswer {
  readonly status: number;
  readonly head: string;
  readonly body: string;
}

/**
 * Sends a POST with these header lines as they are, also those that Node's client refuses to write, and reads until
 * the server closes the connection. Each character of a line is one byte.
 */
export function postRaw(
  url: string,
  lines: readonly string[],
  body = '{}',
  method = 'POST',
): Promise<RawAnswer> {
  const { hostname, port, pathname } = new URL(url);
  const request = [
    `${method} ${pathname} HTTP/1.1`,
    `Host: ${hostname}`,
    'Connection: close',
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...lines,
    '',
    body,
  ].join('\r\n');
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const socket = connect(Number(port), hostname, () => socket.write(request, 'latin1'));
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('error', reject);
    socket.on('close', () => {
      const [head = '', ...rest] = Buffer.concat(chunks).toString('latin1').split('\r\n\r\n');
      resolve({ status: Number(head.split(' ')[1]), head, body: rest.join('\r\n\r\n') });
    });
  });
}
