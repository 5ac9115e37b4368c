import 'reflect-metadata';
import { Body, Controller, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Idempotent, NodeIdempotencyModule } from '@node-idempotency/nestjs';
import { StorageAdapterEnum } from '@node-idempotency/shared';
import { place, serve, type Order } from '../host';

/** `@node-idempotency/nestjs` as its documentation sets it up, on the newest Nest it allows; MODE=bare: that Nest alone. */
const { MODE, REDIS_URL } = process.env;

@Controller()
class BareController {
  @Post('orders')
  place(@Body() order: Order) {
    return place(order);
  }
}

@Controller()
class ProtectedController {
  @Post('orders')
  @Idempotent({})
  place(@Body() order: Order) {
    return place(order);
  }
}

@Module({ controllers: [BareController] })
class BareModule {}

@Module({
  imports: [
    NodeIdempotencyModule.forRootAsync({
      storage: { adapter: StorageAdapterEnum.redis, options: { url: REDIS_URL } },
      enforceIdempotency: true,
    }),
  ],
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
