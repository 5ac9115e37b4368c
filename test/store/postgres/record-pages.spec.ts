import { Digest } from '../../../lib/core/digest';
import { recordId } from '../../../lib/core/record';
import { PostgresDirectory } from '../../../lib/store/postgres/directory';
import { freshDatabases } from '../../support/fresh-databases';
import { claimed, claimRequest, response, sql, type Instance } from '../../support/postgres-store';

const digest = new Digest();

describe('pages of a table that is full of records of other namespaces', () => {
  const databases = freshDatabases();
  let instance: Instance;
  beforeEach(async () => {
    instance = await databases.open();
    const request = claimRequest('mine', { id: recordId('jobs', 'mine', digest) });
    await instance.store.complete(claimed(await instance.store.claim(request)), response('done'));
    await sql(
      databases.url,
      `INSERT INTO idempotency_cache (id, token, fingerprint, state, attempt, created_at, completed_at, expires_at, status, headers, body, scope, key)
       SELECT sha256(i::text::bytea), gen_random_uuid(), sha256('f'), 'completed', 1, now(), now(), now() + interval '1 year', 201, '[]', '', 'theirs', 'key'
       FROM generate_series(1, 9000) AS i`,
    );
  });

  it('are read by few statements', async () => {
    const { connection, names } = instance;
    const statements = jest.spyOn(connection, 'operation');
    const { records, cursor } = await new PostgresDirectory(connection, names.table, digest).list({}, 2);
    expect([records.map(({ key }) => key), cursor]).toEqual([['mine'], undefined]);
    expect(statements.mock.calls.length).toBeLessThan(20);
  });

  it('end early, and go on from there', async () => {
    const { connection, names } = instance;
    const directory = new PostgresDirectory(connection, names.table, digest, 0);
    let page = await directory.list({}, 2_000);
    expect(page.records).toEqual([]);
    for (let pages = 1; page.cursor !== undefined && pages < 9; pages++)
      page = await directory.list({}, 2_000, page.cursor);
    expect([page.records.map(({ key }) => key), page.cursor]).toEqual([['mine'], undefined]);
  });
});
