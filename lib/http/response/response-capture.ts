import type { ServerResponse } from 'node:http';
import type { HeaderList, Outcome } from '../../core/record';
import { tombstoneFor, unsendable } from '../../outcome/stored-outcome';
import { SafeLogger } from '../../observability/safe-logger';
import type { HeaderFilter } from '../../options/idempotency.options';
import { isClosed, onceClosed } from '../closed';
import { HeldHead } from './held-head';
import { ResponseInterception, type ResponseSink, type Method } from './response-interception';
import { sendOrFail } from './last-resort';
import {
  bytesOf,
  callbackIn,
  cut,
  hasBody,
  headersSentError,
  keptHeaders,
  writeAfterEndError,
  type WriteCallback,
} from './node-response';

const logger = new SafeLogger('Idempotency');
const NOTHING = Buffer.alloc(0);

/**
 * Holds a response back on the wire (Nest, a filter, a stream or `@Res()` may write it) until its outcome is
 * recorded: what a client has seen is what every retry gets. To its writer it looks sent.
 *
 * A response that outgrows `maxBodySize` while it is streamed is let through from there on; only its end is held.
 */
export class ResponseCapture implements ResponseSink {
  /** Resolves with the outcome once the handler's side has ended the response; with undefined if it failed to. */
  readonly ended: Promise<Outcome | undefined>;
  /** True once the held response has gone to the client. */
  sent = false;
  /** True once it is not to be sent any more. */
  aborted = false;

  /** Whether middleware has sent a head already. */
  private readonly headGoneBefore: boolean;
  private readonly listenersBefore: number;
  private readonly hold: ResponseInterception;
  private readonly head: HeldHead;
  private chunks: Buffer[] = [];
  private size = 0;
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
    this.listenersBefore = endListeners(response);
    this.hold = new ResponseInterception(response, this);
    this.head = new HeldHead(response, this.hold);
    if (this.headGoneBefore) this.head.send();
  }

  /**
   * Lets the held response go to the client.
   * @param adding makes the headers that go beside or instead of its own
   */
  send(adding?: () => Readonly<Record<string, string>>): void {
    if (this.sent) return;
    this.sent = true;
    sendOrFail(this.response, () => {
      this.restore();
      if (!this.headGone && !this.passing) this.head.complete(this.size, adding?.());
      return this.response.end(this.passing ? undefined : this.body());
    });
  }

  /** Whether something waits for the end of the response since it is held: its writer, perhaps, as a pipeline does. */
  get isAwaited(): boolean {
    return endListeners(this.response) > this.listenersBefore;
  }

  /** Whether its writer has begun the response; undefined once that is for the client to see. */
  get headersSent(): boolean | undefined {
    return this.passing ? undefined : this.head.sent;
  }

  /** Whether its writer has ended the response, likewise. */
  get writableEnded(): boolean | undefined {
    return this.passing ? undefined : this.hasEnded;
  }

  passes(method: Method): boolean {
    switch (method) {
      case 'setHeader':
      case 'setHeaders':
      case 'appendHeader':
        return this.passing || !this.head.sent;
      case 'removeHeader':
      case 'writeHead':
      case 'flushHeaders':
      case 'write':
        return this.passing;
      case 'end':
      case 'destroy':
        return false;
    }
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
        this.head.write(args);
        return this.response;
      case 'flushHeaders':
        this.head.send();
        return undefined;
      case 'removeHeader':
        if (this.head.sent) throw headersSentError();
        if (String(args[0]).toLowerCase() === 'content-length') this.lengthRemoved = true;
        return this.hold.call(method, ...args);
      case 'setHeader':
      case 'setHeaders':
      case 'appendHeader':
        throw headersSentError();
    }
  }

  /**
   * Drops the held response, so that another can be written in its place, instead of the headers that are set. If part
   * of it has gone to the client already, the connection is cut, so that no client takes it for whole, and the answer is
   * false.
   */
  discard(): boolean {
    this.restore();
    if (this.passing || this.headGone) {
      cut(this.response);
      return false;
    }
    return true;
  }

  /**
   * Gives the response up, however much has been written of it, so that another can be written in its place. What its handler
   * writes then fails, but does not end the process.
   */
  abort(): void {
    this.aborted = true;
    this.response.on('error', () => undefined);
    this.abandon(undefined);
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
    onceClosed(this.response, giveUp);
  }

  /**
   * A writer that gives its response up half-way fails as a 500 does, unless the client has something of it already
   * or has left, so that the writer had to.
   */
  private destroy(args: readonly unknown[]): unknown {
    const { response } = this;
    const failed = !this.passing && !isClosed(response);
    const status = failed ? 500 : (this.head.status ?? response.statusCode);
    this.abandon(tombstoneFor(status, this.passing ? 'too_large' : 'unstorable'));
    return this.hold.call('destroy', ...args);
  }

  private restore(): void {
    this.head.give();
    this.hold.release();
  }

  /** Whether nothing can be added to the head any more, although none of the body has gone. */
  private get headGone(): boolean {
    return this.headGoneBefore || (!this.passing && this.hold.escaped);
  }

  private write(args: readonly unknown[]): boolean {
    const callback = callbackIn(args);
    const bytes = bytesOf(args[0], args[1]);
    if (this.hasEnded) {
      if (callback) process.nextTick(callback, writeAfterEndError());
      return false;
    }
    this.head.send();
    this.keep(bytes);
    if (this.size > this.maxBodySize) return this.letThrough(callback);
    if (callback) process.nextTick(callback);
    return true;
  }

  private end(args: readonly unknown[]): ServerResponse {
    if (this.hasEnded) return this.response;
    const [chunk, encoding] = args;
    const bytes = chunk && typeof chunk !== 'function' ? bytesOf(chunk, encoding) : NOTHING;
    this.head.send();
    if (bytes.length > 0 && this.passing) this.hold.call('write', bytes);
    else this.keep(bytes);
    const callback = callbackIn(args);
    if (callback) this.response.once('finish', callback);
    this.hasEnded = true; // for those that read the outcome's headers
    this.settle(this.outcome());
    return this.response;
  }

  private settle(outcome: Outcome | undefined): void {
    this.hasEnded = true;
    clearTimeout(this.givingUp);
    this.resolveEnded(outcome);
  }

  private keep(bytes: Buffer): void {
    if (bytes.length === 0) return;
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
    const { response, head } = this;
    const status = head.status ?? response.statusCode;
    if (this.headGone) return tombstoneFor(status, 'unstorable');
    if (!this.passing) head.frame(this.size, this.lengthRemoved);
    if (this.size > this.maxBodySize) return tombstoneFor(status, 'too_large');
    let headers: HeaderList;
    try {
      headers = keptHeaders(status, head.reason, head.lines(), this.keepsHeader);
    } catch (error) {
      logger.error('The `replayHeaders` option failed, so the response cannot be replayed', error);
      return tombstoneFor(status, 'unstorable');
    }
    if (this.size + sizeOf(headers) > this.maxBodySize) return tombstoneFor(status, 'too_large');
    const body = hasBody(response, status) ? this.body() : NOTHING;
    const problem = unsendable({ status, headers, body }, response.req.method);
    if (problem === undefined) return { kind: 'response', status, headers, body };
    logger.warn(`A response with status ${status} cannot be replayed: ${problem}`);
    return tombstoneFor(status, 'unstorable');
  }

  /** Too long to be recorded: sends what was held, and holds only the end from now on. */
  private letThrough(callback: WriteCallback | undefined): boolean {
    this.head.give();
    this.passing = true;
    this.head.complete();
    const held = this.chunks.splice(0);
    for (const chunk of held.slice(0, -1)) this.hold.call('write', chunk);
    return this.hold.call('write', held.at(-1) ?? '', callback) === true;
  }
}

function endListeners(response: ServerResponse): number {
  return response.listenerCount('finish') + response.listenerCount('close');
}

/** In characters, of which a header has one byte each. */
function sizeOf(headers: HeaderList): number {
  let size = 0;
  for (const [name, value] of headers) {
    if (typeof value === 'string') size += name.length + value.length;
    else for (const each of value) size += name.length + each.length;
  }
  return size;
}
