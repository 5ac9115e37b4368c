import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { startPostgres, type RunningPostgres } from '../../servers';
import { eventually } from '../support/eventually';
import { openDatabase, Row, VERSIONS } from './harness';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

describe.each(VERSIONS)('memory over %s', (version) => {
  let server: RunningPostgres;
  beforeAll(async () => {
    server = await startPostgres();
  });
  afterAll(() => server.stop());

  it('keeps nothing of transactions that have ended, nor of a DataSource that was closed', async () => {
    const refs: WeakRef<object>[] = [];
    const use = async (round: number): Promise<void> => {
      const { dataSource, ambient, transact, close } = await openDatabase(server.url, version);
      await transact(async (transaction) => {
        refs.push(new WeakRef(transaction));
        await dataSource.transaction((manager) => manager.query('SELECT 1'));
        const runner = dataSource.createQueryRunner();
        refs.push(new WeakRef(runner));
        await runner.startTransaction();
        await runner.manager.find(Row);
        await runner.commitTransaction();
      });
      refs.push(new WeakRef(dataSource), new WeakRef(ambient));
      await (round === 0 ? dataSource.destroy() : close()); // an application that failed may not close its module
    };
    for (let round = 0; round < 3; round++) await use(round);
    expect(refs).toHaveLength(12);
    await eventually(() => {
      collect();
      expect(refs.filter((ref) => ref.deref() !== undefined)).toHaveLength(0);
    });
  });
});
