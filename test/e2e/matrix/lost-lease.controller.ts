import { Controller, Post, StreamableFile } from '@nestjs/common';
import { Readable } from 'node:stream';
import { DataSource } from 'typeorm';
import { Idempotent } from '../../../lib';
import { run } from './runs';

/** Loses its claim to another owner while its response is on its way already. */
@Controller('lost-lease')
export class LostLeaseController {
  constructor(private readonly dataSource: DataSource) {}

  @Post()
  @Idempotent({ maxBodySize: 10, waitTimeout: 100 })
  stream(): StreamableFile {
    return new StreamableFile(Readable.from(this.source()));
  }

  private async *source(): AsyncGenerator<string> {
    yield run();
    await this.dataSource.query(
      `UPDATE idempotency_cache SET token = gen_random_uuid(), fence = fence + 1 WHERE state = 'in_progress'`,
    );
    yield 'the end';
  }
}
