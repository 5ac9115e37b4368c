import { Controller, Optional, Post, Res, StreamableFile } from '@nestjs/common';
import { Readable } from 'node:stream';
import { DataSource } from 'typeorm';
import { Idempotent } from '../../../lib';
import { raw, run, type AnyResponse } from './runs';

/** Loses its claim to another owner before its response has ended. */
@Controller('lost-lease')
export class LostLeaseController {
  /** Undefined where records are in memory: there it is not asked. */
  constructor(@Optional() private readonly dataSource?: DataSource) {}

  /** A part of it has gone to the client by then. */
  @Post()
  @Idempotent({ maxBodySize: 10, waitTimeout: 100 })
  stream(): StreamableFile {
    return new StreamableFile(Readable.from(this.source()));
  }

  /** All of it is held. */
  @Post('held')
  @Idempotent({ waitTimeout: 100 })
  async held(@Res() response: AnyResponse): Promise<void> {
    await this.loseClaim();
    raw(response).writeHead(207, 'Quite Multi', { 'X-Held': 'yes' }).end(run());
  }

  private async *source(): AsyncGenerator<string> {
    yield run();
    await this.loseClaim();
    yield 'the end';
  }

  private async loseClaim(): Promise<void> {
    await this.dataSource?.query(
      `UPDATE idempotency_cache SET token = gen_random_uuid(), fence = fence + 1 WHERE state = 'in_progress'`,
    );
  }
}
