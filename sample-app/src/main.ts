import { ValidationPipe } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { AppModule } from './app.module';
import { openStores, type OpenStores } from './stores';

/** A store that is frozen can keep a connection of the application from closing; the process does not wait for it. */
const SHUTDOWN_TIMEOUT = 4_500;

async function main(): Promise<void> {
  const stores = await openStores();
  try {
    const app = await NestFactory.create(AppModule.with(stores));
    app.useGlobalPipes(new ValidationPipe({ whitelist: true, forbidNonWhitelisted: true }));
    await app.listen(Number(process.env.PORT ?? 3000));
    console.log(introduction(await app.getUrl(), stores));

    let stopping = false;
    const shutdown = (signal: NodeJS.Signals): void => {
      if (stopping) return;
      stopping = true;
      setTimeout(() => process.exit(0), SHUTDOWN_TIMEOUT).unref();
      void app
        .close()
        .catch((error: unknown) =>
          console.error(`The application did not close cleanly on ${signal}:`, error),
        )
        .then(() => stores.stop())
        .then(() => process.exit(0));
    };
    process.on('SIGTERM', shutdown);
    process.on('SIGINT', shutdown);
  } catch (error) {
    await stores.stop();
    throw error;
  }
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
  console.error(error);
  process.exit(1);
});
