import { parseArgs } from 'node:util';
import { startPostgres, startRedis } from '../../../servers';
import type { Platform } from '../app';
import { MeasuredApp, type RequestKind } from './measured-app';
import { placesOf } from './places';

/*
 * Where one warm request makes promises, timers and statements, grouped by the place that makes them.
 *
 *   npm run path                                       a first request on Express
 *   npm run path -- --request replay | bare | 'first request in a transaction' | 'replay in a transaction'
 *   npm run path -- --platform fastify
 *   npm run path -- --depth 3                          with this many callers of each place, to tell its uses
 */
const { values: options } = parseArgs({
  options: {
    platform: { type: 'string', default: 'express' },
    request: { type: 'string', default: 'first request' },
    depth: { type: 'string', default: '1' },
  },
});

async function main(): Promise<void> {
  const [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
  const stores = { databaseUrl: postgres.url, redisUrl: redis.url };
  let app: MeasuredApp | undefined;
  try {
    app = await MeasuredApp.start(options.platform as Platform, stores, { stacks: true });
    const { made, commands } = await app.trace(options.request as RequestKind);
    for (const kind of ['promise', 'timer', 'statement'] as const) {
      const stacks = made.filter((each) => each.kind === kind).map(({ from }) => from);
      console.log(`\n${stacks.length} × ${kind}`);
      for (const [place, count] of placesOf(stacks, Number(options.depth)))
        console.log(`${String(count).padStart(4)}  ${place}`);
    }
    console.log(`\n${commands.length} × Redis command\n      ${commands.join(', ')}`);
  } finally {
    await app?.stop();
    await Promise.all([postgres.stop(), redis.stop()]);
  }
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
