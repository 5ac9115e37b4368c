import { randomUUID } from 'node:crypto';
import { Redis } from 'ioredis';

/** Reads along what clients send to a Redis: commands as they were sent, those that a script runs left out. */
export class RedisTap {
  private seen: string[] = [];
  private awaited: { readonly mark: string; readonly resolve: () => void } | undefined;

  private constructor(
    private readonly control: Redis,
    private readonly monitor: Redis,
  ) {
    monitor.on('monitor', (_time: string, args: readonly string[], source: string) => {
      const [name = '', first] = args;
      if (name === 'echo' && this.awaited && first === this.awaited.mark) this.awaited.resolve();
      else if (name !== 'dbsize' && source !== 'lua') this.seen.push(name.toLowerCase());
    });
  }

  static async open(url: string): Promise<RedisTap> {
    const control = new Redis(url);
    return new RedisTap(control, await control.monitor());
  }

  keys(): Promise<number> {
    return this.control.dbsize();
  }

  /** What came since the last call. */
  async commands(): Promise<readonly string[]> {
    const mark = randomUUID();
    const arrived = new Promise<void>((resolve) => (this.awaited = { mark, resolve }));
    await this.control.echo(mark);
    await arrived;
    const { seen } = this;
    this.seen = [];
    return seen;
  }

  close(): void {
    this.monitor.disconnect();
    this.control.disconnect();
  }
}
