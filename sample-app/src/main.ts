import { ValidationPipe, type INestApplication } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { apiToken, DEFAULT_TOKEN } from './api-token.guard';
import { host, isLocal, port } from './listen-address';
import { openStores, type OpenStores } from './stores';
import { StoryModule } from './story/story.module';

/** A store that is frozen can keep a connection of the application from closing; the process does not wait for it. */
const SHUTDOWN_TIMEOUT = 4_500;

async function main(): Promise<void> {
  assertToken();
  const stores = await openStores();
  let app: INestApplication | undefined;
  try {
    app = await NestFactory.create(StoryModule.with(stores), { abortOnError: false });
    app.useGlobalPipes(new ValidationPipe({ whitelist: true, forbidNonWhitelisted: true }));
    await app.listen(port(), host());
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

/** The default token is in the README: it must open nothing to others. */
function assertToken(): void {
  if (isLocal() || apiToken() !== DEFAULT_TOKEN) return;
  throw new Error(`HOST is "${host()}", which others can reach: set API_TOKEN to a token of your own`);
}

function introduction(url: string, stores: OpenStores): string {
  const base = url.replace('[::1]', 'localhost');
  // The page and the README know the default token. Another one is a secret, and output often ends up in a log.
  const isDefault = apiToken() === DEFAULT_TOKEN;
  const token = isDefault ? DEFAULT_TOKEN : '$API_TOKEN';
  const authorization = `-H "Authorization: Bearer ${token}"`;
  return [
    '',
    `Open ${base}/ in a browser: its page plays the story with you.${isDefault ? '' : ' It asks for API_TOKEN.'}`,
    '',
    `Sample    ${base}  (pid ${process.pid})`,
    ...stores.description,
    '',
    'Or use the shell. Send a webhook, and send it again: one lead, and the same response with "Idempotent-Replayed: true".',
    '',
    `  curl -i -X POST ${base}/api/webhooks/leados ${authorization} -H 'Content-Type: application/json' -H 'X-Idempotency-Key: lead-1' -d '{"user_id": "test", "name": "Test"}'`,
    '',
    ...(stores.redis
      ? ['Then kill Redis, and send it a third time:', '', `  kill ${stores.redis.pid}`, '']
      : []),
    'And look:',
    '',
    `  curl ${base}/api/leads ${authorization}`,
    `  curl ${base}/health`,
    `  curl -s ${base}/metrics ${isLocal() ? '' : `${authorization} `}| grep ^idempotency_`,
    '',
  ].join('\n');
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
});
