import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import type { StatementReader } from './statements';

/**
 * What a link does to everything that passes:
 * - `refuse`: connections are refused, and open ones reset
 * - `reset`: connections are accepted and reset
 * - `black-hole`: what is sent, by either side, is never seen again
 * - `drop-replies`: the server gets everything, its client nothing
 * - `delay`: each way takes `delay` ms longer
 * - `cut`: each reply ends in its middle, with a reset
 *
 * Connections that have lost bytes are reset when the mode changes, as no stream goes on with a hole in it.
 */
export type Mode = 'pass' | 'refuse' | 'reset' | 'black-hole' | 'drop-replies' | 'delay' | 'cut';

/** What happens to one statement, or to its reply, and to the connection it came over. */
export type Ruling =
  /** Goes on as if nothing had been. */
  | 'pass'
  /** Is lost with all that follows on its connection, which stays open. */
  | 'lose'
  /** Its connection is reset in its place. */
  | 'reset'
  /** Half of it arrives, then its connection is reset. */
  | 'cut'
  /** What was sent together with it, but before it, arrives; then its connection is reset. Of requests. */
  | 'cut-before'
  /** Arrives when the watch is resumed, with what follows it on its connection behind it. */
  | 'hold';

export interface Watch {
  /** Resolves when the statement, or its reply, has come. */
  readonly reached: Promise<void>;
  /** Lets go what is held. */
  resume(): void;
}

/** Told of what a link does. */
export interface LinkDiary {
  mode(mode: Mode): void;
  /** Of every ruling other than to pass. */
  ruling(ruling: Ruling): void;
}

interface Rule {
  readonly statement: string;
  readonly side: 'request' | 'reply';
  readonly ruling: Ruling;
  readonly act: () => void;
  left: number;
  readonly held: (() => void)[];
  readonly fire: () => void;
}

/** A TCP proxy between one application process and one store, with a fault for every occasion. */
export class Link {
  private mode: Mode = 'pass';
  private delayMs = 0;
  private readonly pairs = new Set<Pair>();
  private rules: Rule[] = [];
  private server: Server | undefined;
  private portNumber = 0;
  /** How often each statement has passed. */
  readonly seen = new Map<string, number>();

  private constructor(
    /** Where the store listens; another one after a failover. */
    private target: number,
    private readonly reader: () => StatementReader,
    private readonly diary: LinkDiary,
  ) {}

  static async open(target: number, reader: () => StatementReader, diary: LinkDiary): Promise<Link> {
    const link = new Link(target, reader, diary);
    await link.listen();
    return link;
  }

  get port(): number {
    return this.portNumber;
  }

  async set(mode: Mode, delayMs = 0): Promise<void> {
    this.mode = mode;
    this.delayMs = delayMs;
    this.diary.mode(mode);
    for (const pair of [...this.pairs]) {
      if (mode === 'refuse' || mode === 'reset' || (mode !== 'black-hole' && pair.hasLost)) pair.reset();
    }
    if (mode === 'refuse') await this.unlisten();
    else await this.listen();
  }

  /** From now on this link leads to another server; connections to the one before are reset. */
  redirect(port: number): void {
    this.target = port;
    for (const pair of [...this.pairs]) pair.reset();
  }

  /**
   * Waits for the next statement of this name (see `statements.ts`), or for its reply.
   * @param act done at that very moment, before anything is passed on
   * @param times how many of them
   */
  watch(
    statement: string,
    side: 'request' | 'reply',
    ruling: Ruling = 'pass',
    { act = () => undefined, times = 1 }: { act?: () => void; times?: number } = {},
  ): Watch {
    const held: (() => void)[] = [];
    let fire!: () => void;
    const reached = new Promise<void>((resolve) => (fire = resolve));
    this.rules.push({ statement, side, ruling, act, left: times, held, fire });
    return { reached, resume: () => held.splice(0).forEach((go) => { go(); }) }; // prettier-ignore
  }

  /** Forgets every watch; what they hold is lost. */
  unwatch(): void {
    this.rules = [];
  }

  async close(): Promise<void> {
    for (const pair of [...this.pairs]) pair.close();
    await this.unlisten();
  }

  private async listen(): Promise<void> {
    if (this.server) return;
    const server = createServer((client) => this.accept(client));
    this.server = server;
    server.listen(this.portNumber, '127.0.0.1');
    await once(server, 'listening');
    this.portNumber = (server.address() as AddressInfo).port;
  }

  private async unlisten(): Promise<void> {
    const { server } = this;
    if (!server) return;
    this.server = undefined;
    await new Promise((resolve) => server.close(resolve));
  }

  private accept(client: Socket): void {
    if (this.mode === 'reset' || this.mode === 'refuse') {
      client.on('error', () => undefined);
      client.resetAndDestroy();
      return;
    }
    const pair = new Pair(client, connect(this.target, '127.0.0.1'), this.reader(), {
      mode: () => this.mode,
      delayMs: () => this.delayMs,
      rule: (statements, side) => this.ruleFor(statements, side),
      closed: () => this.pairs.delete(pair),
    });
    this.pairs.add(pair);
  }

  private ruleFor(statements: readonly string[], side: Rule['side']): Rule | undefined {
    if (side === 'request')
      for (const name of statements) this.seen.set(name, (this.seen.get(name) ?? 0) + 1);
    const rule = this.rules.find(
      (one) => one.left > 0 && one.side === side && statements.includes(one.statement),
    );
    if (rule && rule.ruling !== 'pass') this.diary.ruling(rule.ruling);
    return rule;
  }
}

interface Surroundings {
  mode(): Mode;
  delayMs(): number;
  rule(statements: readonly string[], side: Rule['side']): Rule | undefined;
  closed(): void;
}

/** One connection: the client's socket, and the one to the server. */
class Pair {
  /** Some bytes were not passed on. */
  hasLost = false;
  private awaiting: string[] = [];
  /** How much of it is held on its way: that arrives late, even if its sender has gone. */
  private holding = 0;
  private readonly holdings: Partial<Record<Rule['side'], (() => void)[]>> = {};
  private readonly dueAt = { request: 0, reply: 0 };
  /** A rule has made an end of this connection, but leaves it open. */
  private dead = false;

  constructor(
    private readonly client: Socket,
    private readonly server: Socket,
    private readonly reader: StatementReader,
    private readonly around: Surroundings,
  ) {
    client.setNoDelay(true);
    server.setNoDelay(true);
    client.on('data', (chunk: Buffer) => {
      const statements = this.reader.read(chunk);
      this.pass(chunk, 'request', statements);
    });
    server.on('data', (chunk: Buffer) => {
      const statements = this.awaiting;
      this.awaiting = [];
      this.pass(chunk, 'reply', statements);
    });
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const) {
      // prettier-ignore
      one.on('error', () => undefined); // 'close' follows
      one.on('close', () => {
        if (one === client && this.holding > 0) return;
        if (this.around.mode() !== 'black-hole') other.destroy();
        this.around.closed();
      });
    }
  }

  reset(): void {
    // One that has ended already is not reset: Node would wait for that when it exits, for ever.
    if (this.client.writableEnded) this.client.destroy();
    else if (!this.client.destroyed) this.client.resetAndDestroy();
    this.server.destroy();
  }

  close(): void {
    this.client.destroy();
    this.server.destroy();
  }

  private pass(chunk: Buffer, side: Rule['side'], statements: string[]): void {
    const rule = statements.length > 0 ? this.around.rule(statements, side) : undefined;
    if (rule) {
      rule.left--;
      rule.act();
      rule.fire();
    }
    const target = side === 'request' ? this.server : this.client;
    const onward = (): void => {
      if (side === 'request') this.awaiting.push(...statements);
      target.write(chunk);
    };
    if (this.holdings[side] && rule?.ruling !== 'hold') {
      this.hold(side, onward); // a stream keeps its order
      return;
    }
    switch (rule?.ruling) {
      case 'lose':
        this.dead = true;
        break;
      case 'reset':
        this.reset();
        return;
      case 'cut':
        this.cut(target, chunk);
        return;
      case 'cut-before':
        this.cut(target, chunk, this.reader.startOf?.(rule.statement));
        return;
      case 'hold':
        this.holdings[side] ??= rule.held;
        this.hold(side, onward);
        return;
      case 'pass':
      case undefined:
    }
    const mode = this.around.mode();
    if (this.dead || mode === 'black-hole' || (mode === 'drop-replies' && side === 'reply')) {
      this.hasLost = true;
    } else if (mode === 'cut' && side === 'reply' && statements.length > 0) {
      this.cut(target, chunk);
    } else {
      const now = performance.now();
      this.dueAt[side] = Math.max(this.dueAt[side], now + (mode === 'delay' ? this.around.delayMs() : 0));
      if (this.dueAt[side] > now) setTimeout(onward, Math.ceil(this.dueAt[side] - now));
      else onward();
    }
  }

  private hold(side: Rule['side'], onward: () => void): void {
    this.holding++;
    this.holdings[side]?.push(() => {
      this.holding--;
      this.holdings[side] = undefined;
      onward();
      if (this.holding === 0 && this.client.destroyed) this.server.end(); // that its sender has gone arrives behind it
    });
  }

  private cut(target: Socket, chunk: Buffer, at = Math.floor(chunk.length / 2)): void {
    target.write(chunk.subarray(0, at), () => this.reset());
  }
}
