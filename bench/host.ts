import { setTimeout as delay } from 'node:timers/promises';
import type { DataSource } from 'typeorm';
import { Allocations } from './allocations';
import { writeRow } from './rows';

/** What every subject's request asks for. */
export interface Order {
  readonly user_id?: string;
  readonly filling?: string;
  /** Whether the handler writes a row, in a transaction of the application's DataSource. */
  readonly row?: boolean;
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
  /** Bytes that were allocated on the heap, and milliseconds of collecting them, so far. */
  readonly allocated: number;
  readonly gcMs: number;
}

/** `settled`: the same after garbage was collected, which a busy subject has no time for. */
export type Question = 'state' | 'settled' | 'release';

let executions = 0;
let release: () => void;
let held = new Promise<void>((resolve) => (release = resolve));

/** The handler, the same for all, so that only what protects it differs. */
export function place(order: Order, dataSource: DataSource): Answer | Promise<Answer> {
  executions += 1;
  const answer = { id: executions, order };
  if (order.row) return writeRow(dataSource, order).then(() => answer);
  if (order.hold) return held.then(() => answer);
  return order.wait ? delay(order.wait, answer) : answer;
}

/** Tells the benchmark where the subject listens, and answers its questions until it has gone. */
export function serve(url: string): void {
  const allocations = new Allocations();
  process.on('message', (question: Question) => {
    if (question === 'release') {
      release();
      held = new Promise<void>((resolve) => (release = resolve));
    }
    if (question === 'settled') (globalThis as { gc?: () => void }).gc?.();
    const { rss, heapUsed } = process.memoryUsage();
    const { bytes: allocated, gcMs } = allocations.read();
    process.send?.({ executions, rss, heap: heapUsed, allocated, gcMs } satisfies State);
  });
  process.once('disconnect', () => process.exit(0));
  process.send?.(url);
}
