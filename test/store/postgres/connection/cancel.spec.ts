import type { Client } from 'pg';
import { createServer, type AddressInfo } from 'node:net';
import { cancelStatement } from '../../../../lib/store/postgres/connection/cancel';

describe('the request to cancel a statement', () => {
  it('has the form and the key that the protocol asks for, on a connection of its own', async () => {
    const received = new Promise<Buffer>((resolve) => {
      const server = createServer((socket) => {
        const chunks: Buffer[] = [];
        socket.on('data', (chunk) => chunks.push(chunk));
        socket.on('end', () => {
          server.close();
          resolve(Buffer.concat(chunks));
        });
      });
      server.listen(0, '127.0.0.1', () => {
        const { port } = server.address() as AddressInfo;
        void cancelStatement({ processID: 42, secretKey: -7, host: '127.0.0.1', port } as unknown as Client);
      });
    });
    const request = await received;
    expect([0, 4, 8, 12].map((at) => request.readInt32BE(at))).toEqual([16, 80_877_102, 42, -7]);
    expect(request).toHaveLength(16);
  });

  it('is not made for a client that no server gave a key to, and fails at nothing', async () => {
    await cancelStatement({ host: '127.0.0.1', port: 1 } as unknown as Client);
    await cancelStatement({ processID: 1, secretKey: 1, host: '127.0.0.1', port: 1 } as unknown as Client);
  });
});
