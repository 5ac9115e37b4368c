import { Readable } from 'node:stream';

/**
 * A stream that is read into memory once its source is in the way: a query that is asked for while rows of another are
 * still being read would wait for the end of the stream, which may wait for the query.
 */
export class ReadAhead extends Readable {
  private hurried = false;

  constructor(private readonly source: Readable) {
    super({ objectMode: source.readableObjectMode });
    source.pause();
    source.on('data', (chunk) => {
      if (!this.push(chunk) && !this.hurried) source.pause();
    });
    source.on('end', () => this.push(null));
    source.on('error', (error) => this.stop(error));
    source.on('close', () => this.source.readableEnded || this.destroy());
  }

  needed(): void {
    this.hurried = true;
    this.source.resume();
  }

  /** An error that nothing listens for would end the process. */
  stop(error: Error): void {
    this.destroy(this.listenerCount('error') > 0 ? error : undefined);
  }

  override _read(): void {
    this.source.resume();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.source.destroy();
    done(error);
  }
}
