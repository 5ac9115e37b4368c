import { Body, Controller, Post } from '@nestjs/common';
import { Allocations } from '../../../bench/allocations';
import { Idempotent } from '../../../lib';
import { startApp, type Platform } from '../app';
import { traceRequests } from '../tracing';
import { Recorder, type Made } from './recorder';

/*
 * An application that says what each request makes: one route without protection, and the same with it in each mode. It
 * runs in a process of its own, in which nothing else makes promises or timers.
 */
export type Question = 'begin' | 'end' | 'allocated';
export type Told = { readonly url: string } | 'begun' | readonly Made[] | { readonly bytes: number };

const { PLATFORM, DATABASE_URL, REDIS_URL, STACKS, TRACED } = process.env;

/** Looks this often (ms) whether a request still makes something, and takes it for over after this many without. */
const LOOK_EVERY = 10;
const LOOKS = 6;

interface Order {
  /** Promises and timers that the handler itself makes. */
  readonly extra?: number;
}

@Controller()
class PathController {
  @Post('bare')
  bare(@Body() order: Order): Order {
    for (let made = 0; made < (order.extra ?? 0); made++) {
      void new Promise<void>((resolve) => resolve());
      clearTimeout(setTimeout(() => undefined, 1_000));
    }
    return order;
  }

  @Post('protected')
  @Idempotent({ required: true })
  protected(@Body() order: Order): Order {
    return order;
  }

  @Post('transactional')
  @Idempotent({ required: true, transaction: true })
  transactional(@Body() order: Order): Order {
    return order;
  }
}

/** Calls back once requests make nothing any more, not even after their response. Its one timer is made beforehand. */
class Stillness {
  private seen = 0;
  private looks = 0;
  private then: (() => void) | undefined;

  constructor(private readonly recorder: Recorder) {
    setInterval(() => this.look(), LOOK_EVERY);
  }

  await(then: () => void): void {
    this.looks = 0;
    this.then = then;
  }

  private look(): void {
    this.looks = this.recorder.count === this.seen ? this.looks + 1 : 0;
    this.seen = this.recorder.count;
    if (this.looks < LOOKS) return;
    this.then?.();
    this.then = undefined;
  }
}

async function main(): Promise<void> {
  const recorder = new Recorder(STACKS === 'true');
  const stillness = new Stillness(recorder);
  const allocations = new Allocations();
  const { url } = await startApp({
    platform: PLATFORM as Platform,
    databaseUrl: DATABASE_URL,
    redisUrl: REDIS_URL,
    controllers: [PathController],
    configure: (nest) => (TRACED === 'true' ? void nest.use(traceRequests()) : undefined),
  });
  const tell = (told: Told): void => void process.send?.(told);
  process.on('message', (question: Question) => {
    switch (question) {
      case 'begin':
        recorder.begin();
        tell('begun');
        return;
      case 'end':
        stillness.await(() => tell(recorder.end()));
        return;
      case 'allocated':
        tell({ bytes: allocations.read().bytes });
    }
  });
  process.once('disconnect', () => process.exit(0));
  tell({ url });
}

void main();
