import type { DynamicModule, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { serve } from './host';

/**
 * Starts an application of this repository's Nest, and tells the benchmark where it listens. Not in `host.ts`, which the
 * rivals load as well, with a Nest of theirs.
 * @param platform Express, or `fastify`
 */
export async function start(module: DynamicModule | Type, platform: string): Promise<void> {
  const settings = { logger: ['error' as const] };
  const app =
    platform === 'fastify'
      ? await NestFactory.create(module, new FastifyAdapter(), settings)
      : await NestFactory.create(module, settings);
  await app.listen(0, '127.0.0.1');
  serve((await app.getUrl()).replace('localhost', '127.0.0.1'));
}
