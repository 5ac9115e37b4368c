import { randomUUID } from 'node:crypto';
import {
  Catch,
  ConflictException,
  Controller,
  Inject,
  Post,
  UseFilters,
  UseInterceptors,
  type ArgumentsHost,
  type CallHandler,
  type ExceptionFilter,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { BaseExceptionFilter, HttpAdapterHost } from '@nestjs/core';
import { finalize, type Observable } from 'rxjs';
import { DataSource } from 'typeorm';
import { Idempotent } from '../../lib';
import { appOnServers } from '../support/app-on-servers';
import type { Platform } from '../support/app';
import { sql } from '../support/database';
import { comparable, isReplay, type Answer } from '../support/http';

const write = (dataSource: DataSource, state: string): Promise<unknown> =>
  dataSource.query('UPDATE job SET state = $1', [state]);

/** Marks the job as failed, and answers. */
@Catch()
class FailedJobs implements ExceptionFilter {
  private readonly answers: BaseExceptionFilter;

  constructor(
    @Inject(HttpAdapterHost) { httpAdapter }: HttpAdapterHost,
    @Inject(DataSource) private readonly dataSource: DataSource,
  ) {
    this.answers = new BaseExceptionFilter(httpAdapter);
  }

  async catch(error: unknown, host: ArgumentsHost): Promise<void> {
    await write(this.dataSource, 'failed');
    this.answers.catch(error, host);
  }
}

let finalized: Promise<unknown> | undefined;

class Finalizing implements NestInterceptor {
  constructor(@Inject(DataSource) private readonly dataSource: DataSource) {}

  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(
      finalize(() => {
        finalized = this.dataSource.query('SELECT 1');
      }),
    );
  }
}

@Controller()
@Idempotent({ transaction: true })
class JobsController {
  constructor(@Inject(DataSource) private readonly dataSource: DataSource) {}

  @UseFilters(FailedJobs)
  @Post('conflict')
  async conflict(): Promise<never> {
    await write(this.dataSource, 'running');
    throw new ConflictException();
  }

  @UseFilters(FailedJobs)
  @Post('broken')
  async broken(): Promise<never> {
    await write(this.dataSource, 'running');
    throw new Error('broken');
  }

  @Post('finalized')
  @UseInterceptors(Finalizing)
  async finalized(): Promise<never> {
    await write(this.dataSource, 'running');
    throw new Error('broken');
  }
}

describe.each<Platform>(['express', 'fastify'])(
  'an exception filter beside a transaction on %s',
  (platform) => {
    const servers = appOnServers({ platform, controllers: [JobsController] });
    let key: string;
    beforeAll(() => sql(servers.postgres.url, 'CREATE TABLE job (state text)'));
    beforeEach(async () => {
      key = randomUUID();
      await sql(servers.postgres.url, 'TRUNCATE job');
      await sql(servers.postgres.url, `INSERT INTO job VALUES ('new')`);
    });
    const post = (path: string): Promise<Answer> =>
      servers.app.call(`/${path}`, { headers: { 'Idempotency-Key': key } });
    const states = (): Promise<unknown> => sql(servers.postgres.url, 'SELECT state FROM job');

    it('writes to rows that the handler had locked, and stays when that is rolled back', async () => {
      const first = await post('conflict');
      expect([first.status, await states()]).toEqual([409, [{ state: 'failed' }]]);
      const retry = await post('conflict');
      expect([isReplay(retry), comparable(retry)]).toEqual([true, comparable(first)]);
    });

    it('does so also where the response is not recorded', async () => {
      const answers = [await post('broken'), await post('broken')];
      expect(answers.map(({ status }) => status)).toEqual([500, 500]);
      expect(await states()).toEqual([{ state: 'failed' }]);
    });

    it('leaves what interceptors do at the end of the handler in the transaction', async () => {
      expect((await post('finalized')).status).toBe(500);
      await expect(finalized).resolves.toEqual([{ '?column?': 1 }]);
    });
  },
);
