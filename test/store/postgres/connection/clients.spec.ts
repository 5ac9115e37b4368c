import type { PoolClient } from 'pg';
import type { DataSource } from 'typeorm';
import { Clients } from '../../../../lib/store/postgres/connection/clients';
import { applicationPool } from '../../../../lib/store/postgres/connection/pool';
import { startPostgres, type RunningPostgres } from '../../../../servers';
import { until } from '../../../support/eventually';
import { openDataSource, sql } from '../../../support/postgres-store';

describe('the clients of the module’s own pool', () => {
  let server: RunningPostgres;
  let dataSource: DataSource;
  let clients: Clients;
  beforeAll(async () => {
    server = await startPostgres();
  });
  afterAll(() => server.stop());
  beforeEach(async () => {
    dataSource = await openDataSource(server.url, { applicationName: 'kept' });
    clients = new Clients(applicationPool(dataSource), 2, 5_000);
  });
  afterEach(() => dataSource.destroy());

  const take = (): Promise<PoolClient> =>
    new Promise((resolve, reject) =>
      clients.take((error, client) => (client ? resolve(client) : reject(error!))),
    );
  const pid = async (client: PoolClient): Promise<number> =>
    (await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]!.pid;
  const sessions = (): Promise<{ pid: number }[]> =>
    sql(server.url, `SELECT pid FROM pg_stat_activity WHERE application_name = 'kept idempotency'`);

  it('are handed out again at once, in the turn of the event loop that asks', async () => {
    const first = await take();
    clients.giveBack(first);
    let again: PoolClient | undefined;
    clients.take((_, client) => (again = client));
    expect(again).toBe(first);
    clients.giveBack(first);
    await clients.end();
  });

  it('are handed out no more once their connection is lost while they are kept', async () => {
    const lost = await take();
    const before = await pid(lost);
    clients.giveBack(lost);
    const ended = new Promise((resolve) => lost.once('end', resolve));
    await sql(server.url, `SELECT pg_terminate_backend(${before})`);
    await ended;
    const next = await take();
    expect(await pid(next)).not.toBe(before);
    clients.giveBack(next);
    await clients.end();
  });

  it('pass through the pool each second, so that it can end those that are idle', async () => {
    const used = await take();
    const released = jest.spyOn(used, 'release');
    clients.giveBack(used);
    expect(released).not.toHaveBeenCalled();
    await until(() => released.mock.calls.length > 0);
    expect(await sessions()).toHaveLength(1); // idle in the pool now
    const [one, other] = [await take(), await take()];
    expect(await sessions()).toHaveLength(2);
    for (const client of [one, other]) clients.giveBack(client);
    await clients.end();
  });

  it('end with the pool, also those that are kept or given back later', async () => {
    const [kept, used] = [await take(), await take()];
    clients.giveBack(kept);
    const ended = clients.end();
    clients.giveBack(used);
    await ended;
    await until(async () => (await sessions()).length === 0);
  });
});
