import { randomUUID } from 'node:crypto';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { Controller, Post, Res } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { Idempotent } from '../../lib';
import { startPostgres, type RunningPostgres } from '../../servers';
import { startApp, type Platform, type TestApp } from '../support/app';
import { eventually } from '../support/eventually';
import { KeptLog } from '../support/log';
import { Wire } from '../support/wire';
import { raw, type AnyResponse } from './responses/runs';

type Wrapped = 'writeHead' | 'end' | 'write' | 'setHeader';

/** How the middleware of the next request wraps its response. */
let wraps: ((response: ServerResponse) => void) | undefined;
let runs = 0;

const failing = (): never => {
  throw new Error('middleware failed');
};

/** Throws the first `times` times that the method is called from then on, before or after it has done its work. */
function wrap(
  method: Wrapped,
  times: number,
  how: 'before' | 'after' | 'async',
): (response: ServerResponse) => void {
  return (response) => {
    const own = Reflect.get(response, method) as (...args: unknown[]) => unknown;
    let left = times;
    const wrapped = (...args: unknown[]): unknown => {
      if (left <= 0) return Reflect.apply(own, response, args);
      left -= 1;
      if (how === 'after') Reflect.apply(own, response, args);
      return how === 'async' ? Promise.reject(new Error('middleware failed')) : failing();
    };
    Reflect.set(response, method, wrapped);
  };
}

@Controller()
class ThrowingController {
  constructor(private readonly dataSource: DataSource) {}

  @Post('value')
  @Idempotent()
  value(): unknown {
    return { run: ++runs };
  }

  @Post('raw')
  @Idempotent()
  raw(@Res() response: AnyResponse): void {
    raw(response).end(`run ${++runs}`);
  }

  @Post('streamed')
  @Idempotent({ maxBodySize: 10 })
  streamed(@Res() response: AnyResponse): void {
    runs += 1;
    raw(response).write('x'.repeat(100));
    raw(response).end('the end');
  }

  @Post('required')
  @Idempotent({ required: true })
  required(): unknown {
    return { run: ++runs };
  }

  /** Loses its claim to another owner, who does not answer in time. */
  @Post('loses')
  @Idempotent({ waitTimeout: 100 })
  async loses(): Promise<unknown> {
    await this.dataSource.query(
      `UPDATE idempotency_cache SET token = gen_random_uuid(), fence = fence + 1 WHERE state = 'in_progress'`,
    );
    return { run: ++runs };
  }

  @Post('wrong-length')
  @Idempotent()
  wrongLength(@Res() response: AnyResponse): void {
    runs += 1;
    const answer = raw(response);
    answer.strictContentLength = true;
    answer.setHeader('Content-Length', '3');
    answer.end('longer than three');
  }
}

const METHODS: Wrapped[] = ['writeHead', 'end', 'write', 'setHeader'];
const WAYS: [string, (method: Wrapped) => (response: ServerResponse) => void][] = [
  ['throws once', (method) => wrap(method, 1, 'before')],
  ['always throws', (method) => wrap(method, Infinity, 'before')],
  ['throws once it has done its work', (method) => wrap(method, 1, 'after')],
];

describe.each<Platform>(['express', 'fastify'])('middleware on %s', (platform) => {
  let postgres: RunningPostgres;
  let app: TestApp;
  const log = new KeptLog();
  const rejections: unknown[] = [];
  const record = (reason: unknown): void => void rejections.push(reason);

  beforeAll(async () => {
    postgres = await startPostgres();
    app = await startApp({
      platform,
      databaseUrl: postgres.url,
      controllers: [ThrowingController],
      configure: (nest) => {
        nest.useLogger(log);
        nest.use((_: IncomingMessage, response: ServerResponse, next: () => void) => {
          wraps?.(response);
          next();
        });
      },
    });
    process.on('unhandledRejection', record);
    process.on('uncaughtException', record);
  });
  afterAll(async () => {
    process.off('unhandledRejection', record);
    process.off('uncaughtException', record);
    (app.app.getHttpServer() as Server).closeAllConnections();
    await app.close();
    await postgres.stop();
  });
  beforeEach(() => {
    runs = 0;
    wraps = undefined;
    rejections.length = 0;
    log.lines.length = 0;
  });

  /** The status, or 'cut' if the connection was closed without a whole response. Fails if neither comes. */
  async function ask(path: string, key: string | undefined, body = ''): Promise<number | 'cut'> {
    const wire = await Wire.open(app.url);
    const headers = { 'Content-Type': 'text/plain', ...(key ? { 'Idempotency-Key': key } : {}) };
    let timer!: NodeJS.Timeout;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer to ${path}`)), 8_000);
    });
    try {
      wire.send({ path, headers, body });
      return await Promise.race([
        wire.read().then(
          ({ status }) => status,
          () => 'cut' as const,
        ),
        late,
      ]);
    } finally {
      clearTimeout(timer);
      wire.leave();
    }
  }
  const nothingEscaped = async (): Promise<void> => {
    await new Promise((resolve) => setImmediate(resolve));
    expect(rejections).toEqual([]);
  };

  describe.each(METHODS)('whose `%s`', (method) => {
    // What writes for Express and Fastify when all fails ends the process, also without this module, if it always throws.
    const ways = WAYS.filter(([way]) => method !== 'setHeader' || way !== 'always throws');

    it.each(ways)(
      '%s ends a handler’s response in an answer or a cut, and its outcome is replayed',
      async (how, way) => {
        for (const path of ['/value', '/raw', ...(how === 'always throws' ? [] : ['/streamed'])]) {
          const key = randomUUID();
          runs = 0;
          wraps = way(method);
          const first = await ask(path, key);
          expect(['cut', 200, 201, 500]).toContain(first);
          wraps = undefined;
          const retry = await ask(path, key);
          expect([200, 201, 409]).toContain(retry);
          expect(runs).toBeLessThanOrEqual(2);
        }
        await nothingEscaped();
      },
    );

    it.each(ways)('%s ends a replay in an answer or a cut', async (_, way) => {
      for (const path of ['/value', '/raw']) {
        const key = randomUUID();
        expect(await ask(path, key)).toBeLessThan(300);
        wraps = way(method);
        expect(['cut', 200, 201, 500]).toContain(await ask(path, key));
        wraps = undefined;
        expect(await ask(path, key)).toBeLessThan(300);
      }
      expect(runs).toBe(2);
      await nothingEscaped();
    });

    it.each(ways)(
      '%s ends what is sent after another owner took over in an answer or a cut',
      async (_, way) => {
        wraps = way(method);
        expect(['cut', 201, 409, 500]).toContain(await ask('/loses', randomUUID()));
        expect(runs).toBeLessThanOrEqual(1);
        await nothingEscaped();
      },
    );

    it.each(ways)('%s ends a refusal in an answer or a cut', async (_, way) => {
      const used = randomUUID();
      expect(await ask('/value', used)).toBe(201);
      wraps = way(method);
      expect(['cut', 400, 500]).toContain(await ask('/required', undefined));
      expect(['cut', 422, 500]).toContain(await ask('/value?other=1', used));
      await nothingEscaped();
    });
  });

  it('whose `end` rejects ends in 500, and the reason is logged once', async () => {
    const key = randomUUID();
    wraps = wrap('end', 1, 'async');
    expect(await ask('/value', key)).toBe(500);
    wraps = undefined;
    expect(await ask('/value', key)).toBe(201);
    wraps = wrap('end', 1, 'async');
    expect(await ask('/value', key)).toBe(500);
    wraps = wrap('end', 1, 'async');
    expect(await ask('/required', undefined)).toBe(500);
    await nothingEscaped();
    await eventually(() =>
      expect(log.lines.filter((line) => line.includes('could not be sent'))).toHaveLength(3),
    );
    expect(runs).toBe(1);
  });

  it('that asks for the right length ends a response of another length in a cut or in 500', async () => {
    const key = randomUUID();
    expect(['cut', 500]).toContain(await ask('/wrong-length', key));
    expect(await ask('/wrong-length', key)).toBe(409);
    expect(runs).toBe(1);
    await nothingEscaped();
  });
});
