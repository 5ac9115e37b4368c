import { NestFactory } from '@nestjs/core';
import { AppModule } from './app.module.js';
import { INTERCEPTOR, SigningInterceptor } from './interceptors.js';
import { describedOperation } from './openapi.js';
import { adapter } from './platform.js';

async function main(): Promise<void> {
  const app = await NestFactory.create(AppModule, adapter(), { logger: ['warn', 'error', 'fatal'] });
  app.enableShutdownHooks();
  if (INTERCEPTOR === 'useGlobalInterceptors') app.useGlobalInterceptors(new SigningInterceptor());
  const operation = describedOperation(app);
  await app.listen(0, '127.0.0.1');
  process.send?.({ url: await app.getUrl(), operation });
  process.once('disconnect', () => process.exit(1)); // no parent is left that would end it
}

void main();
