import { Logger } from '@nestjs/common';
import { performance } from 'node:perf_hooks';
import {
  ForgottenRecordError,
  IdempotencySetupError,
  OverloadedError,
  StoreUnavailableError,
} from '../../lib/core/errors';
import type { Metrics } from '../../lib/core/ports';
import { healthOf, StoreMonitor } from '../../lib/store/store-monitor';
import { eventually } from '../support/eventually';

const outage = new StoreUnavailableError('postgres', 'claim', 'gone');

describe('the monitor of a store', () => {
  let said: string[];
  let counted: string[];
  let monitors: StoreMonitor[];
  const monitor = (name: 'redis' | 'postgres', probe?: () => Promise<unknown>): StoreMonitor => {
    const metrics = {
      tierUp: (tier: string, up: boolean) => counted.push(`${tier} ${up ? 'up' : 'down'}`),
      storeOperation: () => undefined,
      storeError: (tier: string) => counted.push(`${tier} error`),
    };
    const made = new StoreMonitor(name, metrics as unknown as Metrics, probe);
    monitors.push(made);
    return made;
  };
  beforeEach(() => {
    [said, counted, monitors] = [[], [], []];
    for (const level of ['log', 'warn', 'error'] as const)
      jest
        .spyOn(Logger.prototype, level)
        .mockImplementation((...line: unknown[]) => void said.push(`${level}: ${String(line[0])}`));
  });
  afterEach(() => {
    for (const each of monitors) each.close();
    jest.restoreAllMocks();
  });
  const fails = (made: StoreMonitor, error: unknown): Promise<unknown> =>
    made.ask('claim', () => Promise.reject(error as Error)).catch((thrown: unknown) => thrown);

  it('takes Postgres for down once it cannot be asked, says so once, and up once a probe is answered', async () => {
    let answers = false;
    const probe = (): Promise<unknown> => (answers ? Promise.resolve() : Promise.reject(outage));
    const made = monitor('postgres', probe);
    await fails(made, outage);
    await fails(made, outage);
    expect(counted.filter((line) => !line.endsWith('error'))).toEqual(['postgres up', 'postgres down']);
    answers = true;
    await eventually(() => expect(counted.at(-1)).toBe('postgres up'));
    expect(said).toEqual([
      expect.stringContaining('warn: Postgres is unavailable (claim): gone'),
      'log: Postgres answers again',
    ]);
  });

  it('doubts that Postgres has all that it had, while it is down and for five minutes after that', async () => {
    const made = monitor('postgres');
    expect(made.isDoubted).toBe(false);
    await fails(made, outage);
    expect(made.isDoubted).toBe(true);
    // Whole milliseconds: sums of fractions are not exact.
    const now = Math.ceil(performance.now());
    const clock = jest.spyOn(performance, 'now').mockReturnValue(now + 3_600_000);
    expect(made.isDoubted).toBe(true);
    await made.ask('claim', () => Promise.resolve());
    expect(made.isDoubted).toBe(true);
    clock.mockReturnValue(now + 3_600_000 + 5 * 60_000 - 1);
    expect(made.isDoubted).toBe(true);
    clock.mockReturnValue(now + 3_600_000 + 5 * 60_000);
    expect(made.isDoubted).toBe(false);
  });

  it('takes our own full queue for no failure of the store', async () => {
    const overloaded = new OverloadedError('postgres', 'claim', 'claims_queued');
    expect(await fails(monitor('postgres'), overloaded)).toBe(overloaded);
    expect(counted).toEqual(['postgres up']);
    expect(said).toEqual([]);
  });

  it('says what the store refuses once per kind, and counts each', async () => {
    const made = monitor('postgres');
    for (const code of ['23514', '23514', '42P01'])
      await fails(made, Object.assign(new Error('refused'), { code }));
    expect(said).toEqual(Array(2).fill('error: Postgres refused to claim'));
    expect(counted.filter((line) => line === 'postgres error')).toHaveLength(3);
    expect(counted).not.toContain('postgres down');
  });

  it('warns of an outcome whose record an operator has deleted: the store does as it was told', async () => {
    await fails(monitor('postgres'), new ForgottenRecordError());
    expect(said).toEqual([expect.stringMatching(/^warn: An operator has deleted the record/)]);
  });

  it('makes a store without its table one that cannot be asked, which had no effect', async () => {
    const error = await fails(monitor('postgres'), new IdempotencySetupError('the table is missing'));
    expect(error).toBeInstanceOf(StoreUnavailableError);
    expect(error).toMatchObject({ sent: false });
  });

  it('leaves it to the breaker of Redis whether that is down', async () => {
    await fails(monitor('redis'), new StoreUnavailableError('redis', 'find', 'gone'));
    expect(counted).toEqual(['redis error']);
    expect(said).toEqual([]);
  });

  it('passes an answer on', async () => {
    expect(await monitor('postgres').ask('find', () => Promise.resolve(7))).toBe(7);
  });

  it('probes no more once it is closed', async () => {
    const made = monitor('postgres', () => Promise.reject(outage));
    made.close();
    await fails(made, outage);
    expect(Reflect.get(made, 'timer')).toBeUndefined();
  });

  it('calls a store healthy that answers, or that only our own queue kept from answering', async () => {
    const overloaded = new OverloadedError('postgres', 'ping', 'claims_late');
    expect(
      await Promise.all(
        [Promise.resolve(), Promise.reject(overloaded), Promise.reject(outage)].map(healthOf),
      ),
    ).toEqual(['up', 'up', 'down']);
  });
});
