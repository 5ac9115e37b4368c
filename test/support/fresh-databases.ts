import { startPostgres, type PostgresStartOptions, type RunningPostgres } from '../../servers';
import { migrate, openInstance, type Instance, type InstanceOptions } from './postgres-store';

export interface FreshDatabasesOptions {
  readonly server?: PostgresStartOptions;
  /** Whether each database has the table. @default true */
  readonly migrated?: boolean;
  /** Of every instance, unless the test says otherwise. */
  readonly instance?: InstanceOptions;
  /** After each test, before its instances are closed. */
  readonly onEnd?: () => unknown;
}

export interface FreshDatabases {
  readonly server: RunningPostgres;
  /** Of the database of this test. */
  readonly url: string;
  /** @param at another database than that of this test */
  readonly open: (options?: InstanceOptions, at?: string) => Promise<Instance>;
  readonly closeAll: () => Promise<void>;
}

/** For the tests of a `describe`: one server for all, a database for each, and instances that end with their test. */
export function freshDatabases(options: FreshDatabasesOptions = {}): FreshDatabases {
  const { migrated = true, onEnd } = options;
  const instances: Instance[] = [];
  let server!: RunningPostgres;
  let url!: string;
  const closeAll = async (): Promise<void> => {
    await Promise.all(instances.splice(0).map((instance) => instance.close()));
  };
  beforeAll(async () => {
    server = await startPostgres(options.server);
  });
  afterAll(() => server.stop());
  beforeEach(async () => {
    url = await server.createDatabase();
    if (migrated) await migrate(url);
  });
  afterEach(async () => {
    jest.restoreAllMocks();
    await onEnd?.();
    await closeAll();
  });
  return {
    get server() {
      return server;
    },
    get url() {
      return url;
    },
    open: async (given = {}, at = url) => {
      const instance = await openInstance(at, { ...options.instance, ...given });
      instances.push(instance);
      return instance;
    },
    closeAll,
  };
}
