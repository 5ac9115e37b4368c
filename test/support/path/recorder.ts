import { createHook } from 'node:async_hooks';
import { Client } from 'pg';

/** What a request makes: a promise, a timer, or a statement that is sent to Postgres. */
export type Kind = 'promise' | 'timer' | 'statement';

export interface Made {
  readonly kind: Kind;
  /** The stack that made it, where stacks are asked for; a statement's text otherwise. */
  readonly from: string;
}

const KINDS: Readonly<Record<string, Kind>> = { PROMISE: 'promise', Timeout: 'timer' };
const FRAMES = 40;

/** Writes down what this process makes between `begin` and `end`. */
export class Recorder {
  private made: Made[] = [];
  private readonly hook = createHook({
    init: (_id, type) => {
      const kind = KINDS[type];
      if (kind) this.made.push({ kind, from: this.stacks ? stack() : '' });
    },
  });

  constructor(private readonly stacks: boolean) {
    this.watchStatements();
  }

  begin(): void {
    this.made = [];
    this.hook.enable();
  }

  end(): readonly Made[] {
    this.hook.disable();
    return this.made;
  }

  get count(): number {
    return this.made.length;
  }

  /** Every client that is made from `pg` is watched, those of the module's own pool as well. */
  private watchStatements(): void {
    const query = Client.prototype.query as (this: Client, ...args: unknown[]) => unknown;
    const note = (statement: unknown): void => {
      const text = typeof statement === 'string' ? statement : (statement as { text?: string }).text;
      this.made.push({ kind: 'statement', from: this.stacks ? stack() : (text ?? '') });
    };
    Client.prototype.query = function (this: Client, ...args: unknown[]) {
      note(args[0]);
      return query.apply(this, args);
    } as Client['query'];
  }
}

function stack(): string {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = FRAMES;
  const text = new Error().stack ?? '';
  Error.stackTraceLimit = limit;
  return text;
}
