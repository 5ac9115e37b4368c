import type { AbstractHttpAdapter } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';

/** fastify/platform.ts takes the place of this on Fastify. */
export function adapter(): AbstractHttpAdapter {
  return new ExpressAdapter();
}
