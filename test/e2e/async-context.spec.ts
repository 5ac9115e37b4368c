import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Controller, Post } from '@nestjs/common';
import { Client } from 'pg';
import { Idempotent } from '../../lib';
import { startPostgres, type RunningPostgres } from '../../servers';
import { startApp, type TestApp } from '../support/app';
import { eventually } from '../support/eventually';
import { gate, type Gate } from '../support/gate';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

const requests = new AsyncLocalStorage<object>();
let held: Gate | undefined;
let stores: WeakRef<object>[] = [];

@Controller()
@Idempotent({ lease: 300 })
class ContextController {
  @Post('work')
  async work(): Promise<boolean> {
    await held?.pass();
    return requests.getStore() !== undefined;
  }
}

describe('background work', () => {
  let postgres: RunningPostgres;
  let app: TestApp;
  const statements: { text: string; context: object | undefined }[] = [];
  const query = Reflect.get(Client.prototype, 'query') as () => unknown;
  beforeAll(async () => {
    postgres = await startPostgres();
    app = await startApp({
      databaseUrl: postgres.url,
      controllers: [ContextController],
      configure: (nest) =>
        void nest.use((_: unknown, __: unknown, next: () => void) => {
          const store = { filling: Buffer.alloc(1_000) };
          stores.push(new WeakRef(store));
          requests.run(store, next);
        }),
    });
    // By hand, as a spy of Jest keeps the arguments, and with a callback what it belongs to.
    Client.prototype.query = function (this: Client, ...args: unknown[]): unknown {
      const [config] = args as [{ text?: string }];
      statements.push({ text: config.text ?? '', context: requests.getStore() });
      return Reflect.apply(query, this, args);
    } as Client['query'];
  });
  afterAll(async () => {
    Client.prototype.query = query as Client['query'];
    await app.close();
    await postgres.stop();
  });
  beforeEach(() => {
    held = undefined;
    stores = [];
    statements.length = 0;
  });
  const renewals = () => statements.filter(({ text }) => text.includes('FOR NO KEY UPDATE'));
  const post = () => app.call('/work', { headers: { 'idempotency-key': randomUUID() } });

  it('belongs to no request, as claims, renewals and completions show, while handlers keep their context', async () => {
    held = gate();
    const answers = [post(), post()];
    await eventually(() => expect(renewals().length).toBeGreaterThan(1));
    held.open();
    for (const { text } of await Promise.all(answers)) expect(text).toBe('true');
    expect(statements.length).toBeGreaterThan(4);
    expect(statements.filter(({ context }) => context !== undefined)).toEqual([]);
  });

  it('keeps no store of an answered request alive', async () => {
    held = gate();
    const first = post();
    await held.reached();
    await eventually(() => expect(renewals().length).toBeGreaterThan(0));
    held.open();
    await first;
    for (let i = 0; i < 10; i++) await post();
    let kept = stores.length;
    for (let i = 0; i < 60 && (kept > 2 || stores[0]!.deref()); i++) {
      await delay(50); // lets Node finish what it still holds; what is kept is no event
      collect();
      kept = stores.filter((store) => store.deref()).length;
    }
    expect(stores).toHaveLength(11);
    expect(kept).toBeLessThan(3);
    expect(stores[0]!.deref()).toBeUndefined(); // the one whose heartbeat began the timer
  });
});
