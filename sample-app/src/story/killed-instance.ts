import { ValidationPipe } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { DataSource } from 'typeorm';
import { AppModule } from '../app.module';
import { Lead } from '../lead.entity';

/*
 * A second instance of the application on the same stores, in a process that the story forks. It is killed right after
 * its handler has saved a lead, before the transaction commits.
 */
async function main(): Promise<void> {
  const { DATABASE_URL = '', REDIS_URL = '' } = process.env;
  process.once('disconnect', () => process.exit()); // the story has ended
  const stores = { databaseUrl: DATABASE_URL, redisUrl: REDIS_URL === '' ? undefined : REDIS_URL };
  const app = await NestFactory.create(AppModule.with(stores), { logger: ['error'] });
  app.useGlobalPipes(new ValidationPipe({ whitelist: true }));
  app.get(DataSource).subscribers.push({
    listenTo: () => Lead,
    afterInsert: () => void process.kill(process.pid, 'SIGKILL'),
  });
  await app.listen(0, '127.0.0.1');
  process.send?.(await app.getUrl());
}

void main();
