import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Controller, HttpException, Post, Res } from '@nestjs/common';
import { Idempotent } from '../../lib';
import { startPostgres, type RunningPostgres } from '../../servers';
import { startApp, type Platform, type TestApp } from '../support/app';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
const raw = (response: ServerResponse | { raw: ServerResponse }): ServerResponse =>
  'raw' in response ? response.raw : response;

let seen: WeakRef<object>[] = [];
let leave: AbortController;

@Controller()
@Idempotent({ maxBodySize: 1_000 })
class ForgottenController {
  @Post('answered')
  answered(@Res({ passthrough: true }) response: ServerResponse | { raw: ServerResponse }): string {
    seen.push(new WeakRef(raw(response)));
    return 'answered';
  }

  @Post('refused')
  refused(@Res({ passthrough: true }) response: ServerResponse | { raw: ServerResponse }): never {
    seen.push(new WeakRef(raw(response)));
    throw new HttpException('refused', 409);
  }

  @Post('failed')
  failed(@Res({ passthrough: true }) response: ServerResponse | { raw: ServerResponse }): never {
    seen.push(new WeakRef(raw(response)));
    throw new Error('failed');
  }

  @Post('too-large')
  tooLarge(@Res({ passthrough: true }) response: ServerResponse | { raw: ServerResponse }): string {
    seen.push(new WeakRef(raw(response)));
    return 'x'.repeat(2_000);
  }

  @Post('left')
  async left(
    @Res({ passthrough: true }) response: ServerResponse | { raw: ServerResponse },
  ): Promise<string> {
    seen.push(new WeakRef(raw(response)));
    const closed = once(raw(response).socket!, 'close');
    leave.abort();
    await closed;
    return 'left';
  }
}

describe.each<Platform>(['express', 'fastify'])('an answered request on %s', (platform) => {
  let postgres: RunningPostgres;
  let app: TestApp;
  beforeAll(async () => {
    postgres = await startPostgres();
    app = await startApp({ platform, databaseUrl: postgres.url, controllers: [ForgottenController] });
  });
  afterAll(async () => {
    await app.close();
    await postgres.stop();
  });

  it.each(['answered', 'refused', 'failed', 'too-large', 'left'])(
    'leaves nothing in memory: /%s',
    async (path) => {
      seen = [];
      for (let i = 0; i < 10; i++) {
        const key = randomUUID();
        for (let call = 0; call < 2; call++) {
          leave = new AbortController();
          await app
            .call(`/${path}`, { signal: leave.signal, headers: { 'idempotency-key': key } })
            .catch(() => undefined);
        }
      }
      let kept = seen.length;
      for (let i = 0; i < 100 && kept > 2; i++) {
        await delay(50); // lets Node finish what it still holds; what is kept is no event
        collect();
        kept = seen.filter((each) => each.deref()).length;
      }
      expect(seen.length).toBeGreaterThanOrEqual(10);
      expect(kept).toBeLessThanOrEqual(2); // the last may be on the stack still
    },
  );
});
