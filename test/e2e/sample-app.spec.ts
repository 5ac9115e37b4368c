import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { eventually } from '../support/eventually';
import { call, comparable, isReplay, type Answer } from '../support/http';
import { launchSample, type Sample } from '../support/sample';

describe('the sample application on its own servers', () => {
  let sample: Sample | undefined;
  let base = '';

  const launch = (env: NodeJS.ProcessEnv): Sample => (sample = launchSample(env));
  const start = async (env: NodeJS.ProcessEnv = {}): Promise<void> => {
    base = await launch(env).listening();
  };
  const output = (): string => sample?.output() ?? '';
  const exits = (): Promise<number | null> => sample!.exits();
  const pidOf = (server: string): number =>
    Number(new RegExp(`${server}.*\\(pid (\\d+)\\)`).exec(output())![1]);
  const webhook = (
    body: unknown = { user_id: 'test', name: 'Test' },
    headers: Record<string, string> = {},
  ): Promise<Answer> =>
    call(`${base}/api/webhooks/leados`, {
      body,
      headers: { authorization: 'Bearer dev-token', 'x-idempotency-key': 'lead-1', ...headers },
    });
  const get = (path: string): Promise<Answer> => call(base + path, { method: 'GET' });
  /** Runs a line as it was printed, but for the grep behind it. */
  const printed = async (path: string, env: NodeJS.ProcessEnv = {}): Promise<string> => {
    const line = output()
      .split('\n')
      .find((each) => each.includes(path) && each.trim().startsWith('curl'));
    return (
      await promisify(execFile)('sh', ['-c', line!.split('|')[0]!], { env: { ...process.env, ...env } })
    ).stdout;
  };

  afterEach(async () => {
    sample?.child.kill('SIGKILL');
    await sample?.exits();
  });

  it('makes one lead of one webhook, sent again and again, also after Redis was killed', async () => {
    await start();
    const first = await webhook();
    expect(first.status).toBe(201);
    const second = await webhook();
    expect(isReplay(second)).toBe(true);
    expect(comparable(second)).toEqual(comparable(first));
    expect((await get('/health')).text).toBe('{"status":"ok","redis":"up","postgres":"up"}');

    process.kill(pidOf('Redis'), 'SIGTERM');
    await eventually(async () => expect((await get('/health')).text).toContain('"redis":"down"'));
    const third = await webhook();
    expect(isReplay(third)).toBe(true);
    expect(comparable(third)).toEqual(comparable(first));
    expect(JSON.parse(await printed('/api/leads'))).toMatchObject({ count: 1 });
    expect((await get('/api/leads')).status).toBe(401);
    expect((await get('/metrics')).text).toMatch(/^idempotency_db_hits [1-9]/m);
    expect((await get('/health')).status).toBe(200);

    expect((await webhook({ user_id: 'test', name: 'Other' })).status).toBe(422);
    expect((await webhook({ user_id: 'test' }, { 'x-idempotency-key': 'lead-2' })).status).toBe(400);
    expect((await webhook(undefined, { authorization: 'Bearer wrong' })).status).toBe(401);
    expect(output()).not.toMatch(/Unhandled|Error:/);

    sample?.child.kill('SIGTERM');
    expect(await exits()).toBe(0);
  });

  it('listens on this machine alone, and on other addresses only with a token of its own', async () => {
    await start();
    expect(new URL(base).hostname).toBe('127.0.0.1');
    expect(await printed('/metrics')).toMatch(/^idempotency_/m);
    await expect(call(base.replace('127.0.0.1', '127.0.0.2') + '/health', { method: 'GET' })).rejects.toThrow(
      /ECONNREFUSED/,
    );
    sample?.child.kill('SIGTERM');
    await exits();
    for (const API_TOKEN of ['', 'dev-token']) {
      launch({ HOST: '0.0.0.0', API_TOKEN });
      expect(await exits()).toBe(1);
      expect(output()).toContain('set API_TOKEN to a token of your own');
    }
    await start({ HOST: '0.0.0.0', API_TOKEN: 'of-my-own' });
    expect((await webhook()).status).toBe(401);
    expect((await webhook(undefined, { authorization: 'Bearer of-my-own' })).status).not.toBe(401);
    // What it prints works in a shell that has the token, and does not tell it.
    const env = { API_TOKEN: 'of-my-own' };
    expect(await printed('/metrics', env)).toMatch(/^idempotency_/m);
    expect(JSON.parse(await printed('/api/leads', env))).toHaveProperty('count');
    expect(output()).not.toContain('of-my-own');
  });

  it('runs on Postgres alone, and says so, where no Redis can be had', async () => {
    await start({ REDIS_SERVER: '/nowhere/redis-server' });
    expect(output()).toMatch(/install Redis/i);
    const first = await webhook();
    expect(comparable(await webhook())).toEqual(comparable(first));
    expect((await get('/health')).text).toBe('{"status":"ok","redis":"disabled","postgres":"up"}');
  });

  it.each(['Redis', 'Postgres'])(
    'ends within 5 s of SIGTERM while %s is frozen, and leaves no server behind',
    async (frozen) => {
      await start();
      await webhook();
      const pids = [pidOf('Redis'), pidOf('Postgres')];
      freeze(pidOf(frozen));
      const before = Date.now();
      sample?.child.kill('SIGTERM');
      await exits();
      expect(Date.now() - before).toBeLessThan(5_000);
      await eventually(() => pids.forEach((pid) => expect(isAlive(pid)).toBe(false)));
    },
  );
});

function freeze(pid: number): void {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    .split(' ')
    .filter(Boolean)
    .map(Number);
  for (const each of [pid, ...children]) process.kill(each, 'SIGSTOP');
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
