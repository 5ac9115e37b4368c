import {
  Controller,
  createParamDecorator,
  Injectable,
  Post,
  Res,
  StreamableFile,
  UseGuards,
  type CanActivate,
  type ExecutionContext,
} from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { defer, from } from 'rxjs';
import { DataSource } from 'typeorm';
import { Idempotent } from '../../../lib';
import { rawResponse, type PlatformResponse } from '../../../lib/http/platform';
import { startPostgres, type RunningPostgres } from '../../../servers';
import { startApp, type Platform, type TestApp } from '../../support/app';
import { eventually } from '../../support/eventually';
import { gate, type Gate } from '../../support/gate';
import { isReplayed, Wire, type WireResponse } from '../../support/wire';
import { run, runs } from './runs';

/** Where a request is held, if it is. */
let held: { middleware?: Gate; guard?: Gate; handler?: Gate } = {};

@Injectable()
class HoldingGuard implements CanActivate {
  async canActivate(): Promise<boolean> {
    await held.guard?.pass();
    return true;
  }
}

/** More than the sockets of both sides hold, so that a client that reads none of it keeps it from being sent. */
const LARGE = 16 * 1024 * 1024;

const Path = createParamDecorator(
  (_: unknown, context: ExecutionContext) => context.switchToHttp().getRequest<{ url: string }>().url,
);

function answer(path: string): unknown {
  return { run: run(), filling: path.includes('large') ? 'x'.repeat(LARGE) : '' };
}

async function promised(path: string): Promise<unknown> {
  const value = answer(path);
  await held.handler?.pass();
  return value;
}

@UseGuards(HoldingGuard)
@Idempotent({ maxBodySize: 2 * LARGE })
@Controller()
class ClientGoneController {
  @Post(['value', 'large-value'])
  value(@Path() path: string): unknown {
    return answer(path);
  }

  @Post(['promise', 'large-promise'])
  promise(@Path() path: string): Promise<unknown> {
    return promised(path);
  }

  @Post(['observable', 'large-observable'])
  observable(@Path() path: string) {
    return defer(() => from(promised(path)));
  }

  @Post(['web-response', 'web-stream', 'generator'])
  observableOfStream(@Path() path: string) {
    return defer(async () => {
      run();
      await held.handler?.pass();
      if (path === '/web-response') return new Response('body', { status: 202 });
      return path === '/web-stream' ? new Blob(['body']).stream() : Readable.from(['body']).iterator();
    });
  }

  @Post('written')
  written(@Res() response: object) {
    return defer(async () => {
      const body = JSON.stringify({ run: run() });
      await held.handler?.pass();
      setImmediate(() =>
        rawResponse(response as PlatformResponse)
          .writeHead(201)
          .end(body),
      );
    });
  }

  /** Longer than it is held, and than what is kept for a response that waits for its turn. */
  @Post('long-stream')
  @Idempotent({ lease: '1s', maxBodySize: 1_000 })
  longStream(): StreamableFile {
    run();
    return new StreamableFile(Readable.from(Array.from({ length: 100 }, () => 'x'.repeat(100_000))));
  }

  @Post('stream')
  @Idempotent({ lease: '1s' })
  stream(): StreamableFile {
    run();
    async function* source(): AsyncGenerator<string> {
      yield 'first ';
      await held.handler?.pass();
      yield 'last';
    }
    return new StreamableFile(Readable.from(source()));
  }
}

/** The advisory lock that, while a test holds it, keeps every such statement waiting. */
const LOCK = { INSERT: 1, UPDATE: 2 };

/** A claim is an INSERT, the recording of its outcome an UPDATE. */
const HOLD = `
  CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_advisory_xact_lock(TG_ARGV[0]::int); RETURN NEW; END $$;
  CREATE TRIGGER hold_insert BEFORE INSERT ON idempotency_cache
    FOR EACH ROW EXECUTE FUNCTION hold(${LOCK.INSERT});
  CREATE TRIGGER hold_update BEFORE UPDATE ON idempotency_cache
    FOR EACH ROW EXECUTE FUNCTION hold(${LOCK.UPDATE});`;

describe.each<Platform>(['express', 'fastify'])('a client that leaves %s', (platform) => {
  let postgres: RunningPostgres;
  let app: TestApp;
  let headers: Record<string, string>;
  let atServer: Socket;

  beforeAll(async () => {
    postgres = await startPostgres();
    app = await startApp({
      platform,
      databaseUrl: postgres.url,
      controllers: [ClientGoneController],
      options: { postgres: { timeout: '30s' } },
      configure: (application) => {
        application.use((_request: unknown, _response: unknown, next: () => void) => {
          void Promise.resolve(held.middleware?.pass()).then(next);
        });
      },
    });
    (app.app.getHttpServer() as Server).on('connection', (socket: Socket) => (atServer = socket));
    await app.app.get(DataSource).query(HOLD);
  });
  afterAll(async () => {
    await app.close();
    await postgres.stop();
  });
  beforeEach(() => {
    Object.assign(runs, { handler: 0 });
    headers = { 'Idempotency-Key': randomUUID() };
  });
  afterEach(() => {
    held = {};
  });

  async function send(path: string): Promise<Wire> {
    const wire = await Wire.open(app.url);
    wire.send({ path, headers });
    return wire;
  }

  /** Resolves once the server has noticed. */
  async function leave(wire: Wire): Promise<void> {
    const socket = atServer;
    wire.leave();
    await eventually(() => expect(socket.closed).toBe(true));
  }

  /** Sends a request, and leaves while its handler is at work, which goes on then. */
  async function leaveAtWork(path: string): Promise<void> {
    const hold = (held.handler = gate());
    const wire = await send(path);
    await hold.reached();
    await leave(wire);
    hold.open();
  }

  /** Sends a request, and leaves while its statement waits in Postgres. */
  async function leaveDuring(
    statement: keyof typeof LOCK,
    path: string,
    meanwhile: () => void,
  ): Promise<void> {
    const lock = app.app.get(DataSource).createQueryRunner();
    await lock.query('SELECT pg_advisory_lock($1)', [LOCK[statement]]);
    const wire = await send(path);
    await eventually(async () => {
      expect(
        await lock.query(
          "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = $1",
          [LOCK[statement]],
        ),
      ).toHaveLength(1);
    });
    await leave(wire);
    meanwhile();
    await lock.query('SELECT pg_advisory_unlock($1)', [LOCK[statement]]);
    await lock.release();
  }

  async function retry(path: string): Promise<WireResponse> {
    const wire = await send(path);
    const its = await wire.read();
    wire.leave();
    return its;
  }

  async function expectOneRunFor(path: string): Promise<void> {
    const again = await retry(path);
    expect(again.status).toBe(201);
    expect(isReplayed(again)).toBe(true);
    expect(again.body.toString()).toMatch(/^\{"run":"run 1 /);
    expect(runs.handler).toBe(1);
  }

  describe.each(['value', 'promise', 'observable'])('while a handler is to give its %s', (style) => {
    it.each(['middleware', 'guard'] as const)(
      'finds its outcome, if it left before the handler began (held in a %s)',
      async (place) => {
        const hold = (held[place] = gate());
        const wire = await send(`/${style}`);
        await hold.reached();
        await leave(wire);
        hold.open();
        await eventually(() => expect(runs.handler).toBe(1));
        await expectOneRunFor(`/${style}`);
      },
    );

    it('finds its outcome, if it left while its claim waited in Postgres', async () => {
      await leaveDuring('INSERT', `/${style}`, () => expect(runs.handler).toBe(0));
      await eventually(() => expect(runs.handler).toBe(1));
      await expectOneRunFor(`/${style}`);
    });

    it('finds its outcome, if it left while that was recorded', async () => {
      await leaveDuring('UPDATE', `/${style}`, () => expect(runs.handler).toBe(1));
      await expectOneRunFor(`/${style}`);
    });

    it('finds its outcome, if it left while that was sent', async () => {
      const wire = await send(`/large-${style}`);
      await wire.firstBytes();
      wire.socket.pause();
      expect(atServer.writableLength).toBeGreaterThan(0);
      await leave(wire);
      await expectOneRunFor(`/large-${style}`);
    });
  });

  it.each(['promise', 'observable', 'written'])(
    'finds the outcome of a handler that was at work on its %s',
    async (style) => {
      await leaveAtWork(`/${style}`);
      await expectOneRunFor(`/${style}`);
    },
  );

  it.each(['web-response', 'web-stream', 'generator'])(
    'is told that nothing was stored, where a %s came out of an Observable and was not read',
    async (style) => {
      await leaveAtWork(`/${style}`);
      const again = await retry(`/${style}`);
      expect(again.body.toString()).toContain('outcome-not-stored');
      expect(again.body.toString()).toContain(`status ${style === 'web-response' ? 202 : 201},`);
      expect([again.status, runs.handler]).toEqual([409, 1]);
    },
  );

  it('is told that nothing was stored, where a stream was torn down with its connection', async () => {
    await leaveAtWork('/stream');
    const again = await retry('/stream');
    expect(again.status).toBe(409);
    expect(again.body.toString()).toContain('outcome-not-stored');
    expect(runs.handler).toBe(1);
  });

  it('is told that nothing was stored, where a stream waited behind another response of its connection', async () => {
    held.handler = gate();
    const wire = await send('/promise');
    headers = { 'Idempotency-Key': randomUUID() };
    wire.send({ path: '/long-stream', headers });
    await eventually(() => expect(runs.handler).toBe(2));
    await leave(wire);
    const again = await retry('/long-stream');
    expect([again.status, again.body.toString()]).toEqual([
      409,
      expect.stringContaining('outcome-not-stored'),
    ]);
    held.handler.open();
  });
});
