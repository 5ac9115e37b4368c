import type { Redis } from 'ioredis';

/**
 * Has the commands that are given in one turn of the event loop leave in one write, as ioredis' own auto-pipelining does,
 * which makes a pipeline object for each, and a lone command wait for the end of the turn.
 */
export class WriteCoalescer {
  private corked: Redis['stream'] | undefined;
  constructor(private readonly client: Redis) {}

  /**
   * To be called before each command.
   * @param busy whether others are under way: then a turn, which reads from many sockets, may bring more of them
   */
  gather(busy: boolean): void {
    if (this.corked) return;
    this.corked = this.client.stream;
    this.corked.cork();
    if (busy) setImmediate(this.send);
    else process.nextTick(this.send);
  }

  private readonly send = (): void => {
    const stream = this.corked;
    this.corked = undefined;
    stream?.uncork(); // the one that was corked, although the client may have another by now
  };
}
