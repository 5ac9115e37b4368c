import 'reflect-metadata';
import { Body, Controller, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Idempotent, NodeIdempotencyModule } from '@node-idempotency/nestjs';
import { StorageAdapterEnum } from '@node-idempotency/shared';
import { DataSource } from 'typeorm';
import { place, serve, type Order } from '../host';
import { openDataSource } from '../rows';

/** `@node-idempotency/nestjs` as its documentation sets it up, on the newest Nest it allows; MODE=bare: that Nest alone. */
const { MODE, DATABASE_URL = '', REDIS_URL } = process.env;

const dataSource = { provide: DataSource, useFactory: () => openDataSource(DATABASE_URL) };

@Controller()
class BareController {
  constructor(private readonly dataSource: DataSource) {}

  @Post('orders')
  place(@Body() order: Order) {
    return place(order, this.dataSource);
  }
}

@Controller()
class ProtectedController {
  constructor(private readonly dataSource: DataSource) {}

  @Post('orders')
  @Idempotent({})
  place(@Body() order: Order) {
    return place(order, this.dataSource);
  }
}

@Module({ providers: [dataSource], controllers: [BareController] })
class BareModule {}

@Module({
  imports: [
    NodeIdempotencyModule.forRootAsync({
      storage: { adapter: StorageAdapterEnum.redis, options: { url: REDIS_URL } },
      enforceIdempotency: true,
    }),
  ],
  providers: [dataSource],
  controllers: [ProtectedController],
})
class ProtectedModule {}

async function main(): Promise<void> {
  const module = MODE === 'bare' ? BareModule : ProtectedModule;
  const app = await NestFactory.create(module, { logger: ['error'] });
  await app.listen(0, '127.0.0.1');
  serve((await app.getUrl()).replace('localhost', '127.0.0.1'));
}

void main();
