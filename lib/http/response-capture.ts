import { Logger } from '@nestjs/common';
import type { ServerResponse } from 'node:http';
import type { HeaderList, Outcome } from '../core/record';
import { tombstoneFor, unsendable } from '../core/stored-outcome';
import type { HeaderFilter } from '../options/idempotency.options';
import { ResponseHold, type Holder, type Method } from './held-response';
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

/**
 * Holds a response back on the wire, whoever writes it (Nest, a filter, a stream, `@Res()`), until its outcome is
 * recorded: what a client has seen is what every retry gets. To its writer it looks sent.
 *
 * A response that outgrows `maxBodySize` while it is streamed is let through from there on; only its end is held.
 */
export class ResponseCapture implements Holder {
  /** Resolves with the outcome once the handler's side has ended the response; with undefined if it failed to. */
  readonly ended: Promise<Outcome | undefined>;
  /** True once the held response has gone to the client. */
  sent = false;

  private readonly logger = new Logger('Idempotency');
  /** Whether middleware has sent a head already. */
  private readonly headGoneBefore: boolean;
  private readonly hold: ResponseHold;
  private chunks: Buffer[] = [];
  private size = 0;
  private status: number | undefined;
  private reason: string | undefined;
  private headRefused = false;
  private hasEnded = false;
  private passing = false;
  private lengthRemoved = false;
  private givingUp: NodeJS.Timeout | undefined;
  private resolveEnded!: (outcome: Outcome | undefined) => void;

  constructor(
    private readonly response: ServerResponse,
    private readonly maxBodySize: number,
    private readonly keepsHeader: HeaderFilter,
  ) {
    this.ended = new Promise((resolve) => (this.resolveEnded = resolve));
    this.headGoneBefore = response.headersSent;
    this.hold = new ResponseHold(response, this);
    if (this.headGoneBefore) this.sendHead();
  }

  /** Lets the held response go to the client, with these headers beside or instead of its own. */
  send(headers: Readonly<Record<string, string>> = {}): void {
    if (this.sent) return;
    this.sent = true;
    this.restore();
    if (!this.headGone)
      for (const [name, value] of Object.entries(headers)) this.response.setHeader(name, value);
    this.response.end(this.passing ? undefined : this.body());
  }

  /** Whether its writer has begun the response; undefined once that is for the client to see. */
  get begun(): boolean | undefined {
    return this.passing ? undefined : this.headSent;
  }

  /** Whether its writer has ended the response, likewise. */
  get over(): boolean | undefined {
    return this.passing ? undefined : this.hasEnded;
  }

  passes(method: Method): boolean {
    return this.passing && method !== 'end' && method !== 'destroy';
  }

  /** What a writer calls on the response. */
  answer(method: Method, args: readonly unknown[]): unknown {
    if (this.passes(method)) return this.hold.call(method, ...args);
    switch (method) {
      case 'write':
        return this.write(args);
      case 'end':
        return this.end(args);
      case 'destroy':
        return this.destroy(args);
      case 'writeHead':
        return this.writeHead(args);
      case 'flushHeaders':
        this.sendHead();
        return undefined;
      case 'setHeader':
      case 'setHeaders':
      case 'appendHeader':
      case 'removeHeader':
        if (this.headSent) throw headersSentError();
        if (method === 'removeHeader' && String(args[0]).toLowerCase() === 'content-length')
          this.lengthRemoved = true;
        return this.hold.call(method, ...args);
    }
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

  /**
   * A writer that gives its response up half-way fails as a 500 does, unless the client has something of it already
   * or has left, so that the writer had to.
   */
  private destroy(args: readonly unknown[]): unknown {
    const { response } = this;
    const failed = !this.passing && !isClosed(response);
    const status = failed ? 500 : (this.status ?? response.statusCode);
    this.abandon(tombstoneFor(status, this.passing ? 'too_large' : 'unstorable'));
    return this.hold.call('destroy', ...args);
  }

  private restore(): void {
    this.giveStatus();
    this.hold.letGo();
  }

  private giveStatus(): void {
    if (this.status === undefined) return;
    this.response.statusCode = this.status;
    if (reasonOf(this.response) !== this.reason) setReason(this.response, this.reason);
  }

  /** Whether nothing can be added to the head any more, although none of the body has gone. */
  private get headGone(): boolean {
    return this.headGoneBefore || (!this.passing && this.hold.escaped);
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
    const statusCode = this.response.statusCode | 0; // as Node does, since some give text
    const reason = reasonOf(this.response);
    if (reason) setReason(this.response); // or whoever answers in its place would fail at the same
    assertStatusLine(statusCode, reason);
    if (reason) setReason(this.response, reason);
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

  private writeHead([status, ...rest]: readonly unknown[]): ServerResponse {
    if (this.headSent) throw headersSentError();
    const { response } = this;
    const reason = typeof rest[0] === 'string' ? rest[0] : reasonOf(response);
    const statusCode = Number(status) | 0; // as Node does, since some give text
    const sound = this.accepts(() => assertStatusLine(statusCode, reason));
    response.statusCode = sound ? statusCode : 500;
    setReason(response, sound ? reason : '');
    for (const [name, value] of headerEntries(rest.at(-1)))
      this.accepts(() => this.hold.call('setHeader', name, value));
    this.sendHead();
    return response;
  }

  private write(args: readonly unknown[]): boolean {
    const callback = callbackIn(args);
    if (this.hasEnded) {
      if (callback) process.nextTick(callback, writeAfterEndError());
      return false;
    }
    this.sendHead();
    this.keep(args[0] as Chunk, args[1]);
    if (this.size > this.maxBodySize) return this.letThrough(callback);
    if (callback) process.nextTick(callback);
    return true;
  }

  private end(args: readonly unknown[]): ServerResponse {
    if (this.hasEnded) return this.response;
    this.sendHead();
    const [chunk, encoding] = args;
    if (typeof chunk === 'string' || chunk instanceof Uint8Array) {
      if (this.passing) this.hold.call('write', chunk, typeof encoding === 'string' ? encoding : 'utf8');
      else this.keep(chunk, encoding);
    }
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

  private body(): Buffer {
    const [first, ...others] = this.chunks;
    if (first && others.length === 0) return first;
    const whole = Buffer.concat(this.chunks);
    this.chunks = [whole];
    return whole;
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
    if (problem === undefined) return { kind: 'response', status, headers, body: this.body() };
    this.logger.warn(`A response with status ${status} cannot be replayed: ${problem}`);
    return tombstoneFor(status, 'unstorable');
  }

  /** Held whole, it goes with its length, as its replay does, also where Node would send it in chunks. */
  private frame(status: number): void {
    const { response } = this;
    const chunked = response.getHeader('transfer-encoding') === 'chunked';
    const lengthless = this.lengthRemoved && !response.hasHeader('content-length');
    if (!(chunked || lengthless) || response.hasHeader('trailer') || !hasBody(response, status)) return;
    this.hold.call('removeHeader', 'transfer-encoding');
    this.hold.call('setHeader', 'Content-Length', this.size);
  }

  /** Too long to be recorded: sends what was held, and holds only the end from now on. */
  private letThrough(callback: WriteCallback | undefined): boolean {
    this.giveStatus();
    this.passing = true;
    const held = this.chunks.splice(0);
    for (const chunk of held.slice(0, -1)) this.hold.call('write', chunk);
    return this.hold.call('write', held.at(-1) ?? '', callback) === true;
  }
}
