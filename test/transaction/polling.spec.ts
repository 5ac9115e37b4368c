import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import { Polls } from '../../lib/core/poll';
import { recordId, type RecordId } from '../../lib/core/record';
import { Waiter } from '../../lib/core/waiting-room';
import { locksOf, Locks } from '../../lib/transaction/lock';
import { ARE_FREE } from '../../lib/transaction/statements';
import { freshDatabases } from '../support/fresh-databases';
import { eventually } from '../support/eventually';

const KEYS = 50;

describe('keys that wait for transactions of other processes', () => {
  const databases = freshDatabases({ instance: { timeout: 20_000 } });

  /** A process that has the locks of these keys. */
  const hold = async (ids: readonly RecordId[]): Promise<Client> => {
    const client = new Client({ connectionString: databases.url });
    await client.connect();
    await client.query('BEGIN');
    await client.query('SELECT pg_advisory_xact_lock(lock) FROM unnest($1::bigint[]) AS lock', [
      ids.map((id) => locksOf(id).held),
    ]);
    return client;
  };

  it('cost one statement at a time, however many they are', async () => {
    const { connection, store } = await databases.open();
    const ids = Array.from({ length: KEYS }, () => recordId('scope', randomUUID()));
    const holder = await hold(ids.slice(1));
    const last = await hold(ids.slice(0, 1));
    const locks = new Locks(connection);
    const look = async (id: RecordId) => ((await locks.isHeld(id)) ? ('locked' as const) : store.find(id));
    const closing = new AbortController();
    const polls = new Polls(store, { look }, closing.signal);
    const sent = jest.spyOn(connection, 'send');
    const statements = (text?: string): number[] =>
      sent.mock.calls
        .filter(([, statement]) => !text || statement.text === text)
        .map(([, { values }]) => String(values[0]).split(',').length);
    const random = jest.spyOn(Math, 'random').mockReturnValue(0.5);
    const ended: RecordId[] = [];
    const waiting = ids.map(async (id) => {
      const request = { id, policy: { maxWaiters: 1 } };
      await new Promise(
        (resolve, reject) => new Waiter(polls.of(id, 'locked').waiters, request, 0, resolve, reject),
      );
      ended.push(id);
    });
    try {
      // A busy machine may have them begin in two parts, which meet.
      await eventually(() =>
        expect(statements().filter((count) => count === KEYS).length).toBeGreaterThan(2),
      );
      expect(statements().length).toBeLessThan(KEYS);
      await holder.end();
      await eventually(() => expect(ended).toHaveLength(KEYS - 1));
      expect(statements(ARE_FREE)).toContain(KEYS);
      expect(ended).not.toContain(ids[0]);
      await last.end();
      await Promise.all(waiting);
    } finally {
      random.mockRestore();
      closing.abort();
    }
  });
});
