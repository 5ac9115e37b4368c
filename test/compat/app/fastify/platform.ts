import { FastifyAdapter } from '@nestjs/platform-fastify';

export function adapter(): FastifyAdapter {
  return new FastifyAdapter();
}
