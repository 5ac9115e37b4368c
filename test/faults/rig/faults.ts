import { monotonicNow } from './ledger';

/** A fault that was injected, and how long it lasted. */
export interface Fault {
  readonly kind: string;
  /** The instance that it hit, or `*` for all of them. */
  readonly instance: string;
  readonly from: number;
  to: number;
}

/** Whether it has ended the process that it hit. */
export function endsProcess({ kind }: Fault): boolean {
  return kind === 'killed' || kind === 'shut down';
}

/** The diary of a run: what was done to whom, by the clock that executions are stamped with. */
export class Faults {
  readonly list: Fault[] = [];
  /** Processes that ended although the test had not told them to, and what they wrote. */
  readonly crashes: { readonly instance: string; readonly output: string }[] = [];

  ended(instance: string, output: string): void {
    this.crashes.push({ instance, output });
  }

  happened(kind: string, instance = '*'): void {
    const now = monotonicNow();
    this.list.push({ kind, instance, from: now, to: now });
  }

  begin(kind: string, instance = '*'): void {
    this.list.push({ kind, instance, from: monotonicNow(), to: Infinity });
  }

  /** Ends every fault of this instance whose kind begins so. */
  end(kind: string, instance = '*'): void {
    for (const fault of this.list) {
      if (fault.kind.startsWith(kind) && fault.instance === instance && fault.to === Infinity)
        fault.to = monotonicNow();
    }
  }

  /** What hit this instance between the two times. */
  between(instance: string, from: number, to: number): Fault[] {
    return this.list.filter(
      (fault) =>
        (fault.instance === '*' || fault.instance === instance) && fault.to >= from && fault.from <= to,
    );
  }
}
