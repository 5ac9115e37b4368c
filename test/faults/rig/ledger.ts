import { readFileSync } from 'node:fs';

/** One execution of a handler, as it wrote it down itself: outside both stores, and flushed before it went on. */
export interface Execution {
  readonly scope: string;
  readonly key: string;
  readonly instance: string;
  readonly pid: number;
  readonly attempt: number;
  readonly fence: number;
  /** What the response of this execution carries. */
  readonly nonce: string;
  /** Monotonic milliseconds of the machine. */
  readonly at: number;
  /** The handler fails by order, so the key is given back. */
  readonly failed: boolean;
  /** It runs in a transaction with its record, which is rolled back if anything happens to it. @default false */
  readonly transactional?: boolean;
  /** When it leaves its row; `none` also where it fails. @default 'first' */
  readonly effect?: 'first' | 'last' | 'none';
  /** Milliseconds that the handler takes at least. @default 0 */
  readonly takes?: number;
}

/** All executions so far, in the order in which they began. */
export function readLedger(file: string): Execution[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Execution)
    .sort((a, b) => a.at - b.at);
}

/** Now, by the clock that executions are stamped with. */
export function monotonicNow(): number {
  return Number(process.hrtime.bigint() / 1_000n) / 1_000;
}
