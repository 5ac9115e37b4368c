import { Logger } from '@nestjs/common';
import {
  validateHeaderValue,
  type OutgoingHttpHeader,
  type OutgoingHttpHeaders,
  type ServerResponse,
} from 'node:http';
import type { HeaderList, Outcome } from '../core/record';
import { FRAMING_HEADERS, isStatus, tombstoneFor, unsendable } from '../core/stored-outcome';
import type { HeaderFilter } from '../options/idempotency.options';

/** Names of the connection, of the moment, or of one caller: never stored, so never replayed. */
const NEVER_STORED = new Set([
  ...FRAMING_HEADERS,
  'proxy-authenticate',
  'proxy-authentication-info',
  'proxy-authorization',
  'date',
  'set-cookie',
  'www-authenticate',
  'authentication-info',
  'idempotent-replayed',
]);

type WriteCallback = (error?: Error | null) => void;
type Chunk = string | Uint8Array;
type HeaderArgument = OutgoingHttpHeaders | OutgoingHttpHeader[];

const OVERRIDDEN = [
  'writeHead',
  'flushHeaders',
  'write',
  'end',
  'setHeader',
  'setHeaders',
  'appendHeader',
  'removeHeader',
  'headersSent',
  'writableEnded',
  'finished',
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

  private readonly logger = new Logger('Idempotency');
  private readonly previous = new Map<string, PropertyDescriptor | undefined>();
  private readonly chunks: Buffer[] = [];
  private size = 0;
  private status: number | undefined;
  private statusMessage = '';
  private hasEnded = false;
  private passing = false;
  private resolveEnded!: (outcome: Outcome | undefined) => void;

  constructor(
    private readonly response: ServerResponse,
    private readonly maxBodySize: number,
    private readonly keepsHeader: HeaderFilter,
  ) {
    this.ended = new Promise((resolve) => (this.resolveEnded = resolve));
    this.override();
  }

  /** Lets the held response go to the client, with these headers beside or instead of its own. */
  send(headers: Readonly<Record<string, string>> = {}): void {
    this.restore();
    for (const [name, value] of Object.entries(headers)) this.response.setHeader(name, value);
    this.response.end(this.passing ? undefined : Buffer.concat(this.chunks));
  }

  /**
   * Drops the held response, so that another can be written in its place. If part of it has gone to the client
   * already, the connection is cut, so that nobody takes it for whole, and the answer is false.
   */
  discard(): boolean {
    this.restore();
    if (this.passing) {
      this.response.destroy();
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
    if (this.hasEnded) return;
    this.hasEnded = true;
    this.resolveEnded(outcome);
  }

  /**
   * Called when the handler has finished: if the client leaves and the response is not ended within `patience` ms
   * of that (its source was torn down with the connection), all that can be recorded is that the handler ran.
   */
  abandonOnceClosed(patience: number): void {
    if (this.hasEnded) return;
    const giveUp = (): void => {
      const outcome = tombstoneFor(this.response.statusCode, 'unstorable');
      setTimeout(() => this.abandon(outcome), patience).unref();
    };
    if (this.response.closed) giveUp();
    else this.response.once('close', giveUp);
  }

  private override(): void {
    const { response } = this;
    for (const name of OVERRIDDEN) this.previous.set(name, Object.getOwnPropertyDescriptor(response, name));

    const setHeaders = response.setHeader.bind(response);
    const guarded =
      <A extends unknown[], R>(call: (...args: A) => R) =>
      (...args: A): R => {
        if (this.headSent) throw headersSentError();
        return call(...args);
      };
    response.setHeader = guarded(setHeaders);
    response.setHeaders = guarded(response.setHeaders.bind(response));
    response.appendHeader = guarded(response.appendHeader.bind(response));
    response.removeHeader = guarded(response.removeHeader.bind(response));

    response.writeHead = (status: number, ...rest: unknown[]) => {
      if (this.headSent) throw headersSentError();
      response.statusCode = status;
      if (typeof rest[0] === 'string') response.statusMessage = rest[0];
      for (const [name, value] of headerEntries(rest.at(-1))) setHeaders(name, value);
      this.sendHead();
      return response;
    };
    response.flushHeaders = () => this.sendHead();
    response.write = (chunk: Chunk, ...rest: unknown[]) => this.write(chunk, rest);
    response.end = (...args: unknown[]) => this.end(args);
    define(response, 'headersSent', () => this.headSent);
    define(response, 'writableEnded', () => this.hasEnded);
    define(response, 'finished', () => this.hasEnded);
  }

  private restore(): void {
    if (this.status !== undefined) {
      this.response.statusCode = this.status;
      this.response.statusMessage = this.statusMessage;
    }
    for (const [name, descriptor] of this.previous) {
      if (descriptor) Object.defineProperty(this.response, name, descriptor);
      else Reflect.deleteProperty(this.response, name);
    }
    this.previous.clear();
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
    const { response } = this;
    const status = response.statusCode | 0; // some set text, and Node takes it
    if (!isStatus(status)) throw invalidStatusError(response.statusCode);
    const message = response.statusMessage;
    response.statusMessage = ''; // or whoever answers in its place would fail at the same
    if (message) validateHeaderValue('statusMessage', message);
    response.statusMessage = message;
    this.status = status;
    this.statusMessage = message;
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
    this.hasEnded = true;
    this.resolveEnded(this.outcome());
    return this.response;
  }

  private keep(chunk: Chunk, encoding: unknown): void {
    const bytes =
      typeof chunk === 'string'
        ? Buffer.from(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8')
        : Buffer.from(chunk);
    this.size += bytes.length;
    this.chunks.push(bytes);
  }

  private outcome(): Outcome {
    const status = this.status ?? this.response.statusCode;
    if (this.size > this.maxBodySize) return tombstoneFor(status, 'too_large');
    let headers: HeaderList;
    try {
      headers = this.headers();
    } catch (error) {
      this.logger.error('The `replayHeaders` option failed, so the response cannot be replayed', error);
      return tombstoneFor(status, 'unstorable');
    }
    const problem = unsendable({ status, headers });
    if (problem === undefined) return { kind: 'response', status, headers, body: Buffer.concat(this.chunks) };
    this.logger.warn(`A response with status ${status} cannot be replayed: ${problem}`);
    return tombstoneFor(status, 'unstorable');
  }

  private headers(): HeaderList {
    const { response } = this;
    const kept: [string, string | readonly string[]][] = [];
    for (const name of rawHeaderNames(response)) {
      const raw = response.getHeader(name);
      const value = Array.isArray(raw) ? raw.map(String) : String(raw);
      const lower = name.toLowerCase();
      if (raw !== undefined && !NEVER_STORED.has(lower) && this.keepsHeader(lower, value))
        kept.push([name, value]);
    }
    return kept;
  }

  /** Too long to be recorded: sends what was held, and holds only the end from now on. */
  private letThrough(callback: WriteCallback | undefined): boolean {
    const { response } = this;
    this.restore();
    this.passing = true;
    const held = this.chunks.splice(0);
    for (const chunk of held.slice(0, -1)) response.write(chunk);
    const flowing = response.write(held.at(-1) ?? '', callback);
    this.previous.set('end', Object.getOwnPropertyDescriptor(response, 'end'));
    response.end = (...args: unknown[]) => {
      const [chunk, encoding] = args;
      if (typeof chunk === 'string')
        response.write(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8');
      else if (chunk instanceof Uint8Array) response.write(chunk);
      return this.end(args.filter((arg) => typeof arg === 'function'));
    };
    return flowing;
  }
}

/** As they were set, in upper and lower case; Node's types lack the method on responses. */
function rawHeaderNames(response: ServerResponse & { getRawHeaderNames?(): string[] }): string[] {
  return response.getRawHeaderNames?.() ?? response.getHeaderNames();
}

function define(target: object, name: string, get: () => unknown): void {
  Object.defineProperty(target, name, { get, configurable: true, enumerable: true });
}

function callbackIn(args: readonly unknown[]): WriteCallback | undefined {
  return args.find((arg): arg is WriteCallback => typeof arg === 'function');
}

/** `writeHead` takes an object, a flat list of names and values, or a list of pairs. */
function headerEntries(headers: unknown): [string, string | number | readonly string[]][] {
  if (typeof headers !== 'object' || headers === null) return [];
  const given = headers as HeaderArgument;
  if (!Array.isArray(given)) {
    return Object.entries(given).filter(
      (entry): entry is [string, OutgoingHttpHeader] => entry[1] !== undefined,
    );
  }
  if (Array.isArray(given[0])) return given as unknown as [string, OutgoingHttpHeader][];
  const joined = new Map<string, [string, string | number | readonly string[]]>();
  for (let i = 0; i + 1 < given.length; i += 2) {
    const name = String(given[i]);
    const before = joined.get(name.toLowerCase());
    const value = given[i + 1] as string | number;
    joined.set(
      name.toLowerCase(),
      before ? [name, [...[before[1]].flat().map(String), String(value)]] : [name, value],
    );
  }
  return [...joined.values()];
}

function invalidStatusError(status: unknown): RangeError {
  return Object.assign(new RangeError(`Invalid status code: ${String(status)}`), {
    code: 'ERR_HTTP_INVALID_STATUS_CODE',
  });
}

function writeAfterEndError(): Error {
  return Object.assign(new Error('write after end'), { code: 'ERR_STREAM_WRITE_AFTER_END' });
}

function headersSentError(): Error {
  return Object.assign(new Error('Cannot set headers after they are sent to the client'), {
    code: 'ERR_HTTP_HEADERS_SENT',
  });
}
