import { Logger } from '@nestjs/common';
import type { ServerResponse } from 'node:http';
import type { HeaderList, Outcome } from '../core/record';
import { tombstoneFor, unsendable } from '../core/stored-outcome';
import type { HeaderFilter } from '../options/idempotency.options';
import { Overrides } from './overrides';
import {
  assertStatusLine,
  bytesOf,
  callbackIn,
  cut,
  hasBody,
  headerEntries,
  headersSentError,
  isClosed,
  keptHeaders,
  reasonOf,
  setReason,
  writeAfterEndError,
  type Chunk,
  type WriteCallback,
} from './response-head';

/** In the order in which they are put on. */
const OVERRIDDEN = [
  'setHeader',
  'setHeaders',
  'appendHeader',
  'removeHeader',
  'writeHead',
  'flushHeaders',
  'write',
  'end',
  'destroy',
] as const;

/**
 * Holds a response back on the wire, whoever writes it (Nest, a filter, a stream, `@Res()`), until its outcome is
 * recorded: what a client has seen is what every retry gets. To its writer it looks sent.
 *
 * A response that outgrows `maxBodySize` while it is streamed is let through from there on; only its end is held.
 */
export class ResponseCapture {
  /** Resolves with the outcome once the handler's side has ended the response; with undefined if it failed to. */
  readonly ended: Promise<Outcome | undefined>;
  /** True once the held response has gone to the client. */
  sent = false;

  private readonly logger = new Logger('Idempotency');
  /** Whether middleware has sent a head already, to which nothing can be added. */
  private readonly headGone: boolean;
  private readonly overrides: Overrides;
  private readonly chunks: Buffer[] = [];
  private size = 0;
  private status: number | undefined;
  private reason: string | undefined;
  private headRefused = false;
  private hasEnded = false;
  private passing = false;
  private lengthRemoved = false;
  private givingUp: NodeJS.Timeout | undefined;
  private bare!: Pick<ServerResponse, 'setHeader' | 'removeHeader'>;
  private resolveEnded!: (outcome: Outcome | undefined) => void;

  constructor(
    private readonly response: ServerResponse,
    private readonly maxBodySize: number,
    private readonly keepsHeader: HeaderFilter,
  ) {
    this.ended = new Promise((resolve) => (this.resolveEnded = resolve));
    this.headGone = response.headersSent;
    this.overrides = new Overrides(response);
    this.overrides.hold(this);
    this.override();
    if (this.headGone) this.sendHead();
  }

  /** Lets the held response go to the client, with these headers beside or instead of its own. */
  send(headers: Readonly<Record<string, string>> = {}): void {
    if (this.sent) return;
    this.sent = true;
    this.restore();
    if (!this.headGone)
      for (const [name, value] of Object.entries(headers)) this.response.setHeader(name, value);
    this.response.end(this.passing ? undefined : Buffer.concat(this.chunks));
  }

  /** True once its writer has begun the response. */
  get begun(): boolean {
    return this.headSent;
  }

  /** True once its writer has ended the response. */
  get over(): boolean {
    return this.hasEnded;
  }

  /**
   * Drops the held response, so that another can be written in its place. If part of it has gone to the client
   * already, the connection is cut, so that nobody takes it for whole, and the answer is false.
   */
  discard(): boolean {
    this.restore();
    if (this.passing || this.headGone) {
      cut(this.response);
      return false;
    }
    for (const name of this.response.getHeaderNames()) {
      // Left for whoever writes the next one: once it was removed, Node sets none by itself.
      if (name !== 'content-length') this.response.removeHeader(name);
    }
    return true;
  }

  /** Gives up waiting for the end of the response. */
  abandon(outcome: Outcome | undefined): void {
    if (!this.hasEnded) this.settle(outcome);
  }

  /**
   * Called when the handler has finished: if the client leaves and the response is not ended within `patience` ms
   * of that (its source was torn down with the connection), all that can be recorded is that the handler ran.
   */
  abandonOnceClosed(patience: number): void {
    if (this.hasEnded) return;
    const giveUp = (): void => {
      // Nest ends most responses after their handler has finished, and each of them is closed at last.
      if (this.hasEnded) return;
      const outcome = tombstoneFor(this.response.statusCode, 'unstorable');
      this.givingUp = setTimeout(() => this.abandon(outcome), patience).unref();
    };
    if (isClosed(this.response)) giveUp();
    else this.response.once('close', giveUp);
  }

  private override(): void {
    const { response } = this;
    this.overrides.remember(...OVERRIDDEN);

    const setHeader = response.setHeader.bind(response);
    const removeHeader = response.removeHeader.bind(response);
    this.bare = { setHeader, removeHeader };
    const guarded =
      <A extends unknown[], R>(call: (...args: A) => R) =>
      (...args: A): R => {
        if (this.headSent) throw headersSentError();
        return call(...args);
      };
    response.setHeader = guarded(setHeader);
    for (const name of ['setHeaders', 'appendHeader']) {
      const call: unknown = Reflect.get(response, name); // HTTP/2 lacks setHeaders
      if (typeof call !== 'function') continue;
      Reflect.set(
        response,
        name,
        guarded((...args: unknown[]): unknown => Reflect.apply(call, response, args)),
      );
    }
    response.removeHeader = guarded((name: string) => {
      if (name.toLowerCase() === 'content-length') this.lengthRemoved = true;
      removeHeader(name);
    });

    response.writeHead = (status: number, ...rest: unknown[]) => {
      if (this.headSent) throw headersSentError();
      const reason = typeof rest[0] === 'string' ? rest[0] : reasonOf(response);
      const statusCode = status | 0; // as Node does, since some give text
      const sound = this.accepts(() => assertStatusLine(statusCode, reason));
      response.statusCode = sound ? statusCode : 500;
      setReason(response, sound ? reason : '');
      for (const [name, value] of headerEntries(rest.at(-1))) this.accepts(() => setHeader(name, value));
      this.sendHead();
      return response;
    };
    response.flushHeaders = () => this.sendHead();
    response.write = (chunk: Chunk, ...rest: unknown[]) => this.write(chunk, rest);
    response.end = (...args: unknown[]) => this.end(args);
    this.overrideDestroy();
  }

  /**
   * A writer that gives its response up half-way fails as a 500 does, unless the client has something of it already
   * or has left, so that the writer had to.
   */
  private overrideDestroy(): void {
    const { response } = this;
    const destroy = response.destroy.bind(response);
    response.destroy = (error?: Error) => {
      const failed = !this.passing && !isClosed(response);
      const status = failed ? 500 : (this.status ?? response.statusCode);
      this.abandon(tombstoneFor(status, this.passing ? 'too_large' : 'unstorable'));
      return destroy(error);
    };
  }

  private restore(): void {
    if (this.status !== undefined) {
      this.response.statusCode = this.status;
      setReason(this.response, this.reason);
    }
    this.overrides.restore();
  }

  private get headSent(): boolean {
    return this.status !== undefined;
  }

  /**
   * From here on a status that is set comes too late, as it does on the wire. What Node would not send is refused here
   * as Node does, while its writer can still answer otherwise.
   */
  private sendHead(): void {
    if (this.headSent) return;
    const statusCode = this.response.statusCode | 0; // as above
    const reason = reasonOf(this.response);
    setReason(this.response); // or whoever answers in its place would fail at the same
    assertStatusLine(statusCode, reason);
    setReason(this.response, reason);
    this.status = statusCode;
    this.reason = reason;
  }

  /**
   * What Node refuses in a head that is given whole fails its writer, who can answer with an error instead. That error
   * goes without it: Fastify keeps what was refused, and would fail again where nobody catches it, which ends the process.
   */
  private accepts(step: () => void): boolean {
    try {
      step();
      return true;
    } catch (error) {
      if (this.headRefused) return false;
      this.headRefused = true;
      throw error;
    }
  }

  private write(chunk: Chunk, rest: readonly unknown[]): boolean {
    const callback = callbackIn(rest);
    if (this.hasEnded) {
      if (callback) process.nextTick(callback, writeAfterEndError());
      return false;
    }
    this.sendHead();
    this.keep(chunk, rest[0]);
    if (this.size > this.maxBodySize) return this.letThrough(callback);
    if (callback) process.nextTick(callback);
    return true;
  }

  private end(args: readonly unknown[]): ServerResponse {
    if (this.hasEnded) return this.response;
    this.sendHead();
    const [chunk, encoding] = args;
    if (typeof chunk === 'string' || chunk instanceof Uint8Array) this.keep(chunk, encoding);
    const callback = callbackIn(args);
    if (callback) this.response.once('finish', callback);
    this.hasEnded = true; // for whatever reads the outcome's headers
    this.settle(this.outcome());
    return this.response;
  }

  private settle(outcome: Outcome | undefined): void {
    this.hasEnded = true;
    clearTimeout(this.givingUp);
    this.resolveEnded(outcome);
  }

  private keep(chunk: Chunk, encoding: unknown): void {
    const bytes = bytesOf(chunk, encoding);
    this.size += bytes.length;
    this.chunks.push(bytes);
  }

  private outcome(): Outcome {
    const status = this.status ?? this.response.statusCode;
    if (this.headGone) return tombstoneFor(status, 'unstorable');
    if (!this.passing) this.frame(status);
    if (this.size > this.maxBodySize) return tombstoneFor(status, 'too_large');
    let headers: HeaderList;
    try {
      headers = keptHeaders(this.response, this.reason, this.keepsHeader);
    } catch (error) {
      this.logger.error('The `replayHeaders` option failed, so the response cannot be replayed', error);
      return tombstoneFor(status, 'unstorable');
    }
    const problem = unsendable({ status, headers });
    if (problem === undefined) return { kind: 'response', status, headers, body: Buffer.concat(this.chunks) };
    this.logger.warn(`A response with status ${status} cannot be replayed: ${problem}`);
    return tombstoneFor(status, 'unstorable');
  }

  /** Held whole, it goes with its length, as its replay does, also where Node would send it in chunks. */
  private frame(status: number): void {
    const { response } = this;
    const chunked = response.getHeader('transfer-encoding') === 'chunked';
    const lengthless = this.lengthRemoved && !response.hasHeader('content-length');
    if (!(chunked || lengthless) || response.hasHeader('trailer') || !hasBody(response, status)) return;
    this.bare.removeHeader('transfer-encoding');
    this.bare.setHeader('Content-Length', this.size);
  }

  /** Too long to be recorded: sends what was held, and holds only the end from now on. */
  private letThrough(callback: WriteCallback | undefined): boolean {
    const { response } = this;
    this.restore();
    this.passing = true;
    const held = this.chunks.splice(0);
    for (const chunk of held.slice(0, -1)) response.write(chunk);
    const flowing = response.write(held.at(-1) ?? '', callback);
    this.overrides.remember('destroy', 'end');
    this.overrideDestroy();
    response.end = (...args: unknown[]) => {
      const [chunk, encoding] = args;
      if (typeof chunk === 'string' || chunk instanceof Uint8Array) response.write(bytesOf(chunk, encoding));
      return this.end(args.filter((arg) => typeof arg === 'function'));
    };
    return flowing;
  }
}
