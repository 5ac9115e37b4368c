import { createServer, connect, type AddressInfo, type Server, type Socket } from 'node:net';

type Doom = 'data' | 'reply' | 'silence';

interface Proxy {
  through(url: string): string;
  /** Resets each connection open now when something is next sent over it. */
  resetOnNextData(): void;
  /** Lets each connection open now pass on what is sent, and resets it instead of passing on the reply. */
  resetOnNextReply(): void;
  /** Passes on no reply any more over the connections open now, and leaves them open. */
  silence(): void;
  close(): Promise<void>;
}

export async function startProxy(port: number): Promise<Proxy> {
  const pairs = new Set<{ client: Socket; upstream: Socket; doomed: Doom | undefined }>();
  const server: Server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1');
    const pair = { client, upstream, doomed: undefined as Doom | undefined };
    pairs.add(pair);
    const end = (): void => {
      pairs.delete(pair);
      client.resetAndDestroy();
      upstream.destroy();
    };
    client.on('data', (data) => (pair.doomed === 'data' ? end() : upstream.write(data)));
    upstream.on('data', (data) => {
      if (pair.doomed === 'reply') end();
      else if (pair.doomed !== 'silence') client.write(data);
    });
    for (const socket of [client, upstream]) socket.on('error', end).on('close', end);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  server.unref(); // a test that fails may leave it open
  const doom = (how: Doom): void => {
    for (const pair of pairs) pair.doomed = how;
  };
  return {
    through: (url) => url.replace(/:\d+\//, `:${(server.address() as AddressInfo).port}/`),
    resetOnNextData: () => doom('data'),
    resetOnNextReply: () => doom('reply'),
    silence: () => doom('silence'),
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const { client, upstream } of pairs) {
        client.destroy();
        upstream.destroy();
      }
      await closed;
    },
  };
}
