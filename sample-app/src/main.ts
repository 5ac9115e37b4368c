import { ValidationPipe, type INestApplication } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { AppModule } from './app.module';
import { openStores, type OpenStores } from './stores';

const DEFAULT_PORT = 3000;

/** A store that is frozen can keep a connection of the application from closing; the process does not wait for it. */
const SHUTDOWN_TIMEOUT = 4_500;

async function main(): Promise<void> {
  const stores = await openStores();
  let app: INestApplication | undefined;
  try {
    app = await NestFactory.create(AppModule.with(stores), { abortOnError: false });
    app.useGlobalPipes(new ValidationPipe({ whitelist: true, forbidNonWhitelisted: true }));
    await app.listen(port());
    console.log(introduction(await app.getUrl(), stores));
    stopOnSignal(app, stores);
  } catch (error) {
    await app?.close();
    await stores.stop();
    throw error;
  }
}

function stopOnSignal(app: INestApplication, stores: OpenStores): void {
  const stop = async (): Promise<void> => {
    setTimeout(() => process.exit(0), SHUTDOWN_TIMEOUT).unref();
    await app
      .close()
      .catch((error: unknown) => console.error('The application did not close cleanly:', error));
    await stores.stop();
    process.exit(0);
  };
  let stopping: Promise<void> | undefined;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void (stopping ??= stop()));
}

function port(): number {
  const { PORT = '' } = process.env;
  const number = PORT === '' ? DEFAULT_PORT : Number(PORT);
  if (!Number.isInteger(number) || number < 0 || number > 65_535)
    throw new Error(`PORT is "${PORT}", but must be a number from 0 to 65535`);
  return number;
}

function introduction(url: string, stores: OpenStores): string {
  const base = url.replace('[::1]', 'localhost');
  const token = process.env.API_TOKEN ?? 'dev-token';
  return [
    '',
    ...stores.description,
    '',
    'Send a webhook, and send it again: one lead, and the same response with "Idempotent-Replayed: true".',
    '',
    `  curl -i -X POST ${base}/api/webhooks/leados -H 'Authorization: Bearer ${token}' -H 'Content-Type: application/json' -H 'X-Idempotency-Key: lead-1' -d '{"user_id": "test", "name": "Test"}'`,
    '',
    ...(stores.redisPid
      ? ['Then kill Redis, and send it a third time:', '', `  kill ${stores.redisPid}`, '']
      : []),
    'And look:',
    '',
    `  curl ${base}/api/leads`,
    `  curl ${base}/health`,
    `  curl -s ${base}/metrics | grep ^idempotency_`,
    '',
  ].join('\n');
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
});
