import { connect, createServer, type AddressInfo } from 'node:net';
import { DataSource } from 'typeorm';
import { startPostgres, type RunningPostgres } from '../../servers';
import { Plans } from '../../lib/store/postgres/connection/plans';
import { Ambient } from '../../lib/transaction/ambient';
import { Connections } from '../../lib/transaction/connections';

/** What Postgres says when it is idle, and when an administrator ends a session. */
const READY = Buffer.from([0x5a, 0, 0, 0, 5, 0x49]);
const REASON = Buffer.from('SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0');
const ENDED = Buffer.concat([Buffer.from([0x45, 0, 0, 0, REASON.length + 4]), REASON]);

describe('connections of the application', () => {
  let server: RunningPostgres;
  beforeAll(async () => {
    server = await startPostgres();
  });
  afterAll(() => server.stop());

  it('that Postgres ends as soon as they are there end no process', async () => {
    let ending = false;
    const proxy = createServer((client) => {
      const upstream = connect(server.port, '127.0.0.1');
      client.pipe(upstream);
      upstream.on('data', (chunk) => {
        if (ending && chunk.includes(READY)) client.end(Buffer.concat([chunk, ENDED]));
        else client.write(chunk);
      });
      client.on('error', () => undefined).on('close', () => upstream.destroy());
      upstream.on('error', () => undefined).on('close', () => client.destroy());
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    const url = new URL(server.url);
    url.port = String((proxy.address() as AddressInfo).port);
    const dataSource = await new DataSource({ type: 'postgres', url: url.href }).initialize();
    const ambient = new Ambient(dataSource);
    const make = (): Connections =>
      new Connections(dataSource, ambient, { timeout: 5_000, plans: new Plans(true) });
    make();
    const connections = make();
    const first = await connections.take(); // of those that are there from before
    ending = true;
    const session = await connections.take();
    await expect(session.send([['SELECT 1']])).rejects.toThrow();
    session.destroy();
    ending = false;
    expect((await first.send([['SELECT 1']]))[0]?.tag).toBe('SELECT 1');
    first.release();
    await dataSource.destroy();
    proxy.close();
  });
});
