import { Injectable, Module } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
import {
  ClsPluginTransactional,
  Propagation as ClsPropagation,
  TransactionHost,
} from '@nestjs-cls/transactional';
import { TransactionalAdapterTypeOrm } from '@nestjs-cls/transactional-adapter-typeorm';
import { getDataSourceToken } from '@nestjs/typeorm';
import { ClsModule, ClsService } from 'nestjs-cls';
import {
  addTransactionalDataSource,
  deleteDataSourceByName,
  initializeTransactionalContext,
  Propagation,
  runInTransaction,
  runOnTransactionCommit,
  StorageDriver,
} from 'typeorm-transactional';
import { outside } from '../../lib/transaction/ambient';
import { startPostgres, type RunningPostgres } from '../../servers';
import { openDatabase, Row, type Database } from './harness';

/** Runs work as a method with `@Transactional()` of a library does. */
type Transactional = (propagation: string, work: () => Promise<unknown>) => Promise<unknown>;

interface Library {
  readonly transactional: Transactional;
  /** Writes a row as an application of this library does. */
  write(name: string): Promise<unknown>;
  /** What a request of the application runs in. */
  request<T>(work: () => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/** By the names that both libraries use. */
const CLS_PROPAGATIONS = new Map<string, ClsPropagation>(
  Object.values(ClsPropagation).map((each) => [each, each]),
);
const PROPAGATIONS = new Map<string, Propagation>(Object.values(Propagation).map((each) => [each, each]));

async function nestjsCls({ dataSource }: Database): Promise<Library> {
  @Module({
    providers: [{ provide: getDataSourceToken(), useValue: dataSource }],
    exports: [getDataSourceToken()],
  })
  class DatabaseModule {}
  @Injectable()
  class Rows {
    constructor(readonly host: TransactionHost<TransactionalAdapterTypeOrm>) {}
  }
  const module: TestingModule = await Test.createTestingModule({
    imports: [
      ClsModule.forRoot({
        plugins: [
          new ClsPluginTransactional({
            imports: [DatabaseModule],
            adapter: new TransactionalAdapterTypeOrm({ dataSourceToken: getDataSourceToken() }),
          }),
        ],
      }),
    ],
    providers: [Rows],
  }).compile();
  const { host } = module.get(Rows);
  return {
    transactional: (propagation, work) => host.withTransaction(CLS_PROPAGATIONS.get(propagation)!, work),
    write: (name) => host.tx.getRepository(Row).save({ name }),
    request: (work) => module.get(ClsService).run(work),
    close: () => module.close(),
  };
}

function typeormTransactional({ dataSource }: Database): Promise<Library> {
  addTransactionalDataSource(dataSource);
  const repository = dataSource.getRepository(Row);
  return Promise.resolve({
    transactional: (propagation, work) =>
      runInTransaction(work, {
        propagation: PROPAGATIONS.get(propagation),
      }),
    write: (name) => repository.save({ name }),
    request: (work) => work(),
    close: () => Promise.resolve(void deleteDataSourceByName('default')),
  });
}

function typeormTransactionalLater(database: Database): Promise<Library> {
  expect(database.ambient).toBeDefined(); // which changes the DataSource before the library does
  return typeormTransactional(database);
}

const LIBRARIES: Record<string, (database: Database) => Promise<Library>> = {
  '@nestjs-cls/transactional': nestjsCls,
  'typeorm-transactional': typeormTransactional,
  'typeorm-transactional that comes later': typeormTransactionalLater,
};

/** What a method with this propagation does in a protected handler. */
const METHODS: Record<string, 'a savepoint' | 'joins' | 'refused'> = {
  REQUIRED: 'a savepoint',
  REQUIRES_NEW: 'a savepoint',
  NESTED: 'a savepoint',
  SUPPORTS: 'joins',
  NOT_SUPPORTED: 'joins',
  NEVER: 'joins',
  MANDATORY: 'refused',
};
const allowed = Object.keys(METHODS).filter((name) => METHODS[name] !== 'refused');

describe.each(Object.keys(LIBRARIES))('@Transactional() of %s within a transaction', (name) => {
  let server: RunningPostgres;
  let database: Database;
  let library: Library;
  beforeAll(async () => {
    initializeTransactionalContext({ storageDriver: StorageDriver.ASYNC_LOCAL_STORAGE });
    server = await startPostgres();
    database = await openDatabase(server.url);
    library = await LIBRARIES[name]!(database);
  });
  afterAll(async () => {
    await library.close();
    await database.close();
    await server.stop();
  });
  beforeEach(() => database.dataSource.query('DELETE FROM "row"'));

  /** A protected handler. */
  const handle = (work: () => Promise<unknown>, end?: 'ROLLBACK'): Promise<unknown> =>
    library.request(() => database.transact(work, end));
  const failing = async (work: () => Promise<unknown>): Promise<void> => {
    await work();
    throw new Error('failed');
  };

  it.each(allowed)('belongs to it: %s', async (propagation) => {
    await handle(() => library.transactional(propagation, () => library.write('a')), 'ROLLBACK');
    expect(await database.rows()).toEqual([]);
    await handle(() => library.transactional(propagation, () => library.write('a')));
    expect(await database.rows()).toEqual(['a']);
  });

  it.each(allowed)('undoes what it wrote when it fails, if it is a savepoint: %s', async (propagation) => {
    await handle(async () => {
      await library.write('before');
      const failed = library.transactional(propagation, () => failing(() => library.write('a')));
      await expect(failed).rejects.toThrow('failed');
      await library.write('z after');
    });
    const kept = METHODS[propagation] === 'joins' ? ['a'] : [];
    expect(await database.rows()).toEqual([...kept, 'before', 'z after']);
  });

  it.each(['REQUIRED', 'REQUIRES_NEW', 'NESTED', 'SUPPORTS', 'NOT_SUPPORTED', 'MANDATORY'])(
    'belongs to the method that calls it, also where it would be on its own without the module: %s',
    async (propagation) => {
      await handle(async () => {
        const outer = library.transactional('REQUIRED', () =>
          failing(() => library.transactional(propagation, () => library.write('inner'))),
        );
        await expect(outer).rejects.toThrow('failed');
      });
      expect(await database.rows()).toEqual([]);
    },
  );

  it('does not know the transaction of the module: MANDATORY is refused outside of a method of the library', async () => {
    await expect(handle(() => library.transactional('MANDATORY', () => library.write('a')))).rejects.toThrow(
      /MANDATORY|Mandatory|not active|no transaction/i,
    );
  });

  it('takes turns with its siblings', async () => {
    await handle(async () => {
      const methods = Array.from({ length: 6 }, (_, index) =>
        library.transactional('REQUIRES_NEW', async () => {
          await library.write(`${index % 2 ? 'failed' : 'done'} ${index}`);
          if (index % 2) throw new Error('failed');
        }),
      );
      await Promise.allSettled(methods);
    });
    expect(await database.rows()).toEqual(['done 0', 'done 2', 'done 4']);
  });

  it('refuses what is to be outside of it and would be rolled back with it', async () => {
    await handle(() =>
      library.transactional('REQUIRED', async () => {
        await expect(outside(() => library.write('outside'))).rejects.toThrow('is used in outside()');
        const within = outside(() => library.transactional('REQUIRED', () => library.write('outside')));
        await expect(within).rejects.toThrow('is used in outside()');
        await library.write('a');
      }),
    );
    expect(await database.rows()).toEqual(['a']);
  });

  it('is left by a method with REQUIRES_NEW in outside()', async () => {
    const write = (): Promise<unknown> => library.transactional('REQUIRES_NEW', () => library.write('a'));
    await handle(() => library.transactional('REQUIRED', () => outside(write)), 'ROLLBACK');
    expect(await database.rows()).toEqual(['a']);
  });

  if (name.startsWith('typeorm-transactional')) {
    it('calls what is to run on commit when its method ends, which is before the module commits', async () => {
      await handle(async () => {
        const called = new Promise<void>((call) => {
          void library.transactional('REQUIRED', async () => {
            await library.write('a');
            runOnTransactionCommit(call);
          });
        });
        await called;
        expect(await outside(() => database.rows())).toEqual([]);
      });
      expect(await database.rows()).toEqual(['a']);
    });
  }

  it('works as before outside of a protected handler', async () => {
    await library.request(async () => {
      await library.transactional('REQUIRED', () => library.write('a'));
      const failed = library.transactional('REQUIRED', () => failing(() => library.write('b')));
      await expect(failed).rejects.toThrow('failed');
    });
    expect(await database.rows()).toEqual(['a']);
  });
});
