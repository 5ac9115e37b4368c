import { performance } from 'node:perf_hooks';
import { isLate } from '../../batching/late';
import { turnOf, type Turn } from './turns';

export interface OperationOptions {
  /** Milliseconds that Postgres has, from its turn on. */
  readonly timeout: number;
  /** Monotonic time (ms) by which it must have its turn. @default `timeout` from now */
  readonly deadline?: number;
  /** Called when it has its turn: from now on Postgres has `timeout` ms. */
  readonly onStart?: () => void;
  /** Called before a statement is sent, from when on it may take effect. */
  readonly onSend?: () => void;
}

/** One or more statements, one after the other, under one deadline, which begins with the turn of the first. */
export class Operation {
  /** Where it waits for a connection. */
  readonly turn: Turn;
  /** Monotonic time (ms). */
  readonly began = performance.now();
  readonly timeout: number;
  readonly onSend: (() => void) | undefined;
  /** Monotonic time (ms) by which it must have its turn; once it has, by which Postgres must have answered. */
  deadline: number;
  private readonly onStart: (() => void) | undefined;
  private started = false;
  private extended = false;

  constructor(
    readonly name: string,
    { timeout, deadline, onStart, onSend }: OperationOptions,
  ) {
    this.turn = turnOf(name);
    this.timeout = timeout;
    this.deadline = deadline ?? this.began + timeout;
    this.onStart = onStart;
    this.onSend = onSend;
  }

  start(): void {
    if (this.started) return;
    this.started = true;
    this.deadline = performance.now() + this.timeout;
    this.onStart?.();
  }

  /**
   * Whether the process was too busy to look, and the operation has its whole time again; once at most. What still waits
   * to begin has a limit in the queue that it came from, which would give it up while it is sent.
   */
  extend(late: number): boolean {
    if (!this.started || this.extended || !isLate(late, this.timeout)) return false;
    this.extended = true;
    this.deadline = performance.now() + this.timeout;
    return true;
  }
}
