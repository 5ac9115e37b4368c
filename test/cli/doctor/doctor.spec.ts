import { randomBytes } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import Redis from 'ioredis';
import {
  startPgBouncer,
  startPostgres,
  startRedis,
  type RunningPostgres,
  type RunningRedis,
  type RunningServer,
} from '../../../servers';
import type { IdempotencyModuleOptions } from '../../../lib';
import { Digest } from '../../../lib/core/digest';
import { recordId } from '../../../lib/core/record';
import type { Finding } from '../../../lib/cli/doctor/finding';
import { program } from '../../../lib/cli/program';
import { terminal } from '../../../lib/cli/terminal';
import { startApp } from '../../support/app';
import { cli, type CliOptions } from '../../support/cli';
import { migrate, sql } from '../../support/postgres-store';

/** What is broken, and how the doctor is called then. */
interface Broken extends CliOptions {
  readonly args?: readonly string[];
}

interface SetUp {
  readonly what: string;
  readonly check: string;
  readonly level: Finding['level'];
  readonly says: RegExp;
  readonly fix: RegExp;
  readonly break: () => Promise<Broken>;
}

const KEY = randomBytes(32).toString('base64');
const SECRET = 'a secret of this application, 32 bytes or more';

describe('the doctor', () => {
  let postgres: RunningPostgres;
  let redis: RunningRedis;
  let databaseUrl: string;
  let redisUrl: string;
  const servers: RunningServer[] = [];
  const listeners: Server[] = [];
  beforeAll(async () => {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  });
  afterAll(() => Promise.all([postgres.stop(), redis.stop()]));
  beforeEach(async () => {
    databaseUrl = await postgres.createDatabase();
    redisUrl = redis.url;
  });
  afterEach(async () => {
    await Promise.all(servers.splice(0).map((server) => server.stop()));
    for (const listener of listeners.splice(0)) listener.close();
  });

  const started = async <S extends RunningServer>(server: Promise<S>): Promise<S> => {
    servers.push(await server);
    return server;
  };
  /** An application that is set up well, and has recorded something. */
  const use = async (options: IdempotencyModuleOptions = {}): Promise<void> => {
    const app = await startApp({ databaseUrl, redisUrl, options });
    await app.service.execute('key', () => 1);
    await app.close();
  };
  /** Within this process, where nothing has to be loaded before: a process that loads the module takes a second. */
  const run = async (
    args: readonly string[] = [],
    { env, preload }: CliOptions = {},
  ): Promise<{ code: number | null | undefined; findings: Finding[]; output: string }> => {
    const variables = { DATABASE_URL: databaseUrl, REDIS_URL: redisUrl, ...env };
    const command = ['doctor', '--json', ...args];
    const findingsOf = (stdout: string) => (JSON.parse(stdout) as { findings: Finding[] }).findings;
    if (preload) {
      const { code, stdout, stderr } = await cli(command, { preload, env: variables });
      return { code, findings: findingsOf(stdout), output: stdout + stderr };
    }
    const [print, note] = [
      jest.spyOn(terminal, 'printJson').mockImplementation(),
      jest.spyOn(terminal, 'note').mockImplementation(),
    ];
    const before = { ...process.env };
    Object.assign(process.env, variables);
    try {
      let code: number | undefined;
      await program('0.0.0', (ended) => (code = ended)).parseAsync(command, { from: 'user' });
      const stdout = print.mock.calls.map(([value]) => JSON.stringify(value)).join('\n');
      return { code, findings: findingsOf(stdout), output: stdout + note.mock.calls.join('\n') };
    } finally {
      process.env = before;
      print.mockRestore();
      note.mockRestore();
    }
  };
  const change = (statement: string): Promise<unknown> => sql(databaseUrl, statement);
  const at = (url: string, name: string, password: string): string => {
    const changed = new URL(url);
    [changed.username, changed.password] = [name, password];
    return changed.href;
  };
  const asRole = async (name: string, grants: string): Promise<Broken> => {
    await change(`CREATE ROLE ${name} LOGIN PASSWORD 'pw'; ${grants}`);
    return { env: { DATABASE_URL: at(databaseUrl, name, 'pw') } };
  };
  const withRedis = async (
    args: readonly string[],
    set: (client: Redis) => Promise<unknown>,
  ): Promise<Broken> => {
    redisUrl = (await started(startRedis({ args }))).url;
    await use();
    const client = new Redis(redisUrl);
    await set(client);
    client.disconnect();
    return {};
  };

  it('finds nothing where all is well', async () => {
    await use({ encryption: { keys: [KEY] }, secret: SECRET });
    const { code, findings } = await run([], {
      env: { IDEMPOTENCY_ENCRYPTION_KEYS: KEY, IDEMPOTENCY_SECRET: SECRET },
    });
    expect(findings.filter(({ level }) => level !== 'ok')).toEqual([
      { check: 'alerts', level: 'skipped', problem: 'set PROMETHEUS_URL to check them' },
    ]);
    expect(findings.length).toBeGreaterThan(12);
    expect(code).toBe(0);
  });

  it('leaves the orphans and encryption keys of other namespaces to their applications', async () => {
    await use();
    await use({ namespace: 'billing', encryption: { keys: [KEY] } });
    const { hash } = recordId('execute', 'lost', new Digest({ namespace: 'billing' }));
    await change(
      `INSERT INTO idempotency_cache (id, token, fingerprint, state, attempt, lease_until, created_at, expires_at, scope, key)
       VALUES ('\\x${hash}', gen_random_uuid(), sha256('f'), 'in_progress', 1, now() - interval '1 min', now(),
         now() + interval '1 d', 'execute', 'lost')`,
    );
    const { findings, code } = await run();
    expect(findings.filter(({ level }) => level !== 'ok').map(({ check }) => check)).toEqual(['alerts']);
    expect(code).toBe(0);
    const theirs = await run(['--namespace', 'billing']);
    expect(theirs.findings.filter(({ level }) => level !== 'ok').map(({ check }) => check)).toEqual([
      'encryption keys',
      'orphans',
      'alerts',
    ]);
  });

  it('asks a Prometheus that wants a user and a password, and shows neither', async () => {
    await use();
    const asked: (string | undefined)[] = [];
    const listener = createServer(({ headers, url }, response) => {
      asked.push(url, headers.authorization);
      response.statusCode = 503;
      response.end();
    });
    listeners.push(listener);
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
    const { port } = listener.address() as AddressInfo;
    const alertsAt = async (url: string): Promise<string> => {
      const { findings, output } = await run([], { env: { PROMETHEUS_URL: url } });
      expect(output).not.toMatch(/hid/);
      return findings.find(({ check }) => check === 'alerts')?.problem ?? '';
    };
    expect(await alertsAt(`http://me:hid%40den@127.0.0.1:${port}/prometheus`)).toContain('status 503');
    const credentials = Buffer.from('me:hid@den').toString('base64');
    expect(asked).toEqual(['/prometheus/api/v1/rules', `Basic ${credentials}`]);
    expect(await alertsAt('http://me:hidden@127.0.0.1:1')).toContain('fetch failed');
    expect(await alertsAt('http://me:hidden')).toContain('cannot be asked');
  });

  const setUps: SetUp[] = [
    {
      what: 'Postgres is not there',
      check: 'postgres',
      level: 'error',
      says: /ECONNREFUSED/,
      fix: /DATABASE_URL/,
      break: async () => ({ env: { DATABASE_URL: 'postgres://user:hidden@127.0.0.1:1/none' } }),
    },
    {
      what: 'the table is missing',
      check: 'table',
      level: 'error',
      says: /the table "idempotency_cache" is missing/,
      fix: /015_idempotency_cache\.sql/,
      break: async () => ({}),
    },
    {
      what: 'another table has the name',
      check: 'table',
      level: 'error',
      says: /columns .*fence.* are missing/,
      fix: /Rename the table/,
      break: async () => {
        await change('CREATE TABLE idempotency_cache (id bytea PRIMARY KEY)');
        return {};
      },
    },
    {
      what: 'the table is of an older version',
      check: 'version of the table',
      level: 'error',
      says: /index of claims in progress is missing/,
      fix: /migrate/,
      break: async () => {
        await use();
        await change('DROP INDEX idempotency_cache_in_progress_idx');
        return {};
      },
    },
    ...(['idempotency_cache', 'idempotency_cache_3'] as const).map((on): SetUp => ({
      what: `an index of ${on} was not built to its end`,
      check: 'version of the table',
      level: 'warning',
      says: new RegExp(`indexes are invalid, .*: ${on}_key_idx$`),
      fix: on === 'idempotency_cache' ? /DROP INDEX CONCURRENTLY/ : /migrate --indexes/,
      break: async () => {
        if (on !== 'idempotency_cache') await migrate(databaseUrl, '015_idempotency_cache_partitioned.sql');
        await use();
        await change(`CREATE INDEX ${on}_key_idx ON ${on} (key)`);
        await change(`UPDATE pg_index SET indisvalid = false WHERE indexrelid = '${on}_key_idx'::regclass`);
        return {};
      },
    })),
    {
      what: 'the index of a whole partitioned table was not built to its end',
      check: 'version of the table',
      level: 'warning',
      says: /indexes are invalid, .*: idempotency_cache_key_idx$/,
      fix: /cannot be dropped concurrently/,
      break: async () => {
        await migrate(databaseUrl, '015_idempotency_cache_partitioned.sql');
        await use();
        await change('CREATE INDEX idempotency_cache_key_idx ON ONLY idempotency_cache (key)');
        return {};
      },
    },
    {
      what: 'the table is unlogged',
      check: 'table',
      level: 'error',
      says: /unlogged/,
      fix: /SET LOGGED/,
      break: async () => {
        await use();
        await change('ALTER TABLE idempotency_cache SET UNLOGGED');
        return {};
      },
    },
    {
      what: 'rights are missing',
      check: 'table',
      level: 'error',
      says: /may not use the table/,
      fix: /GRANT SELECT, INSERT, UPDATE, DELETE/,
      break: async () => {
        await use();
        return asRole('reader', 'GRANT SELECT ON idempotency_cache TO reader');
      },
    },
    {
      what: 'row security hides rows',
      check: 'table',
      level: 'error',
      says: /row level security/,
      fix: /CREATE POLICY/,
      break: async () => {
        await use();
        return asRole(
          'hidden',
          'GRANT ALL ON idempotency_cache, idempotency_cache_fence_seq TO hidden; ALTER TABLE idempotency_cache ENABLE ROW LEVEL SECURITY',
        );
      },
    },
    {
      what: 'transactions are read-only',
      check: 'server',
      level: 'error',
      says: /read-only by default/,
      fix: /default_transaction_read_only = off/,
      break: async () => {
        await use();
        await change(
          `ALTER DATABASE "${new URL(databaseUrl).pathname.slice(1)}" SET default_transaction_read_only = on`,
        );
        return {};
      },
    },
    {
      what: 'a pooler loses prepared statements',
      check: 'pooler',
      level: 'warning',
      says: /transaction mode/,
      fix: /max_prepared_statements/,
      break: async () => {
        await use();
        const pooler = await started(startPgBouncer(postgres.port));
        const { pathname } = new URL(databaseUrl);
        return { env: { DATABASE_URL: Object.assign(new URL(pooler.url), { pathname }).href } };
      },
    },
    {
      what: 'the clocks differ',
      check: 'clock',
      level: 'warning',
      says: /differ by 60 s/,
      fix: /NTP/,
      break: async () => {
        await use();
        return { env: { CLOCK_SKEW_MS: '60000' }, preload: [join(__dirname, '../../faults/rig/clock.js')] };
      },
    },
    {
      what: 'the secret is another one',
      check: 'namespace and secret',
      level: 'error',
      says: /secret/,
      fix: /./,
      break: async () => {
        await use({ secret: SECRET });
        return { env: { IDEMPOTENCY_SECRET: `${SECRET}, another` } };
      },
    },
    {
      what: 'the namespace is misspelt',
      check: 'namespace and secret',
      level: 'error',
      says: /no application with the namespace "biling"/,
      fix: /"billing"/,
      break: async () => {
        await use({ namespace: 'billing' });
        return { args: ['--namespace', 'biling'] };
      },
    },
    {
      what: 'an encryption key is missing',
      check: 'encryption keys',
      level: 'error',
      says: /encrypted with keys that are not here: [0-9a-f]{16}/,
      fix: /IDEMPOTENCY_ENCRYPTION_KEYS/,
      break: async () => {
        await use({ encryption: { keys: [KEY] } });
        return { env: { IDEMPOTENCY_ENCRYPTION_KEYS: randomBytes(32).toString('hex') } };
      },
    },
    {
      what: 'nothing cleans up',
      check: 'cleanup',
      level: 'warning',
      says: /has waited for 3 d/,
      fix: /cleanupInterval/,
      break: async () => {
        await use();
        await change(`UPDATE idempotency_cache SET expires_at = now() - interval '3 d' WHERE key = 'key'`);
        return {};
      },
    },
    {
      what: 'outcomes are unknown',
      check: 'orphans',
      level: 'warning',
      says: /1 requests have an unknown outcome, the oldest for \d+ (s|min)/,
      fix: /list --state orphaned/,
      break: async () => {
        await use();
        await change(
          `UPDATE idempotency_cache SET state = 'in_progress', lease_until = now() - interval '90 s', completed_at = NULL,
             status = NULL, headers = NULL, body = NULL WHERE key = 'key'`,
        );
        return {};
      },
    },
    {
      what: 'Redis is not there',
      check: 'redis',
      level: 'error',
      says: /ECONNREFUSED/,
      fix: /REDIS_URL/,
      break: async () => {
        await use();
        return { env: { REDIS_URL: 'redis://:hidden@127.0.0.1:1' } };
      },
    },
    {
      what: 'Redis wants another password',
      check: 'redis',
      level: 'error',
      says: /WRONGPASS|NOAUTH|ERR/,
      fix: /password/,
      break: async () => {
        await withRedis([], (client) => client.config('SET', 'requirepass', 'right'));
        return { env: { REDIS_URL: at(redisUrl, '', 'hidden') } };
      },
    },
    {
      what: 'Redis is a replica',
      check: 'redis role',
      level: 'error',
      says: /replica/,
      fix: /master/,
      break: () => withRedis([], (client) => client.replicaof('127.0.0.1', redis.port)),
    },
    {
      what: 'Redis evicts nothing',
      check: 'redis policy',
      level: 'warning',
      says: /noeviction/,
      fix: /volatile-ttl/,
      break: () =>
        withRedis(['--maxmemory', '100mb', '--maxmemory-policy', 'noeviction'], async () => undefined),
    },
    {
      what: 'the ACL of Redis refuses scripts',
      check: 'redis rights',
      level: 'error',
      says: /eval, evalsha \(.*NOPERM/,
      fix: /ACL SETUSER .* \+eval/,
      break: async () => {
        await withRedis([], (client) =>
          client.acl('SETUSER', 'app', 'on', '>pw', '~idempotency:*', '+@all', '-eval', '-evalsha'),
        );
        return { env: { REDIS_URL: at(redisUrl, 'app', 'pw') } };
      },
    },
    {
      what: 'it is another Redis',
      check: 'redis copies',
      level: 'warning',
      says: /no application has left its mark/,
      fix: /REDIS_URL/,
      break: async () => {
        await use();
        redisUrl = (await started(startRedis())).url;
        return {};
      },
    },
    {
      what: 'the alerts are not loaded',
      check: 'alerts',
      level: 'warning',
      says: /IdempotencyRedisFallbackActive/,
      fix: /rule_files/,
      break: async () => {
        await use();
        const listener = createServer((_, response) =>
          response.end('{"status":"success","data":{"groups":[]}}'),
        );
        listeners.push(listener);
        await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
        return { env: { PROMETHEUS_URL: `http://127.0.0.1:${(listener.address() as AddressInfo).port}` } };
      },
    },
  ];

  it.each(setUps)('finds that $what', async ({ check, level, says, fix, break: broken }) => {
    const { args, ...options } = await broken();
    const { code, findings, output } = await run(args, options);
    const found = findings.filter((each) => each.check === check && each.level === level);
    expect(found).toHaveLength(1);
    expect(found[0]?.problem).toMatch(says);
    expect(found[0]?.fix).toMatch(fix);
    expect(code).toBe(level === 'error' ? 1 : 0);
    expect(output).not.toContain('hidden@');
    expect(output).not.toContain(SECRET);
  });
});
