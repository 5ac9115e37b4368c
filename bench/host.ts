import { setTimeout as delay } from 'node:timers/promises';

/** What every subject's request asks for. */
export interface Order {
  readonly user_id?: string;
  readonly filling?: string;
  /** Milliseconds that the handler takes. */
  readonly wait?: number;
  /** Whether the handler waits until it is told to go on. */
  readonly hold?: boolean;
}

export interface Answer {
  readonly id: number;
  readonly order: Order;
}

/** What a subject tells of itself. */
export interface State {
  readonly executions: number;
  readonly rss: number;
  readonly heap: number;
}

/** `settled`: the same after garbage was collected, which a busy subject has no time for. */
export type Question = 'state' | 'settled' | 'release';

let executions = 0;
let release: () => void;
let held = new Promise<void>((resolve) => (release = resolve));

/** The handler, the same for all, so that only what protects it differs. */
export function place(order: Order): Answer | Promise<Answer> {
  executions += 1;
  const answer = { id: executions, order };
  if (order.hold) return held.then(() => answer);
  return order.wait ? delay(order.wait, answer) : answer;
}

/** Tells the benchmark where the subject listens, and answers its questions until it has gone. */
export function serve(url: string): void {
  process.on('message', (question: Question) => {
    if (question === 'release') {
      release();
      held = new Promise<void>((resolve) => (release = resolve));
    }
    if (question === 'settled') (globalThis as { gc?: () => void }).gc?.();
    const { rss, heapUsed } = process.memoryUsage();
    process.send?.({ executions, rss, heap: heapUsed } satisfies State);
  });
  process.once('disconnect', () => process.exit(0));
  process.send?.(url);
}
