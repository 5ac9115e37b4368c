import { STATUS_CODES, type ServerResponse } from 'node:http';
import {
  headerLinesOf,
  isRepeated,
  isUntouched,
  linesOf,
  listsAppend,
  writeHeaderLines,
} from './header-lines';
import { isHttp2 } from '../platform';
import type { ResponseInterception } from './response-interception';
import {
  assertHeaderLine,
  assertStatusLine,
  dropConnectionHeaders,
  hasBody,
  headersSentError,
  reasonOf,
  setReason,
  type HeaderLine,
} from './node-response';

const NOTHING_MORE: Readonly<Record<string, string>> = {};

/** Status line and headers of a response that is held, from the moment at which its writer takes them for sent. */
export class HeldHead {
  /** Undefined until its writer takes the head for sent. */
  status: number | undefined;
  reason: string | undefined;
  /** What `writeHead` was given, if Node sends it as it is and `setHeader` would not. */
  private given: HeaderLine[] | undefined;
  /** What `writeHead` was given, if those are all headers of the response: to read them from it takes longer. */
  private all: readonly HeaderLine[] | undefined;
  private refused = false;

  constructor(
    private readonly response: ServerResponse,
    private readonly hold: ResponseInterception,
  ) {}

  get sent(): boolean {
    return this.status !== undefined;
  }

  /**
   * From here on a status that is set comes too late, as it does on the wire. What Node would not send is refused here
   * as Node does, while its writer can still answer otherwise.
   */
  send(): void {
    if (this.sent) return;
    if (!this.hold.escaped)
      dropConnectionHeaders(this.response, (name) => this.hold.call('removeHeader', name));
    const statusCode = this.response.statusCode | 0; // as Node does, since some give text
    const reason = reasonOf(this.response);
    if (reason) setReason(this.response); // or what answers in its place would fail at the same
    assertStatusLine(statusCode, reason);
    if (reason) setReason(this.response, reason);
    this.status = statusCode;
    this.reason = reason;
  }

  /** What `writeHead` does. */
  write([status, second, third]: readonly unknown[]): void {
    if (this.sent) throw headersSentError();
    const { response } = this;
    const given = third ?? (typeof second === 'string' ? undefined : second);
    const reason = typeof second === 'string' ? second : reasonOf(response);
    const statusCode = Number(status) | 0; // as Node does, since some give text
    const sound = this.accepts(() => assertStatusLine(statusCode, reason));
    response.statusCode = sound ? statusCode : 500;
    setReason(response, sound ? reasonFor(statusCode, reason) : '');
    if (given !== undefined && given !== null) this.take(given);
    this.send();
  }

  /** Gives the response what its head is sent with. */
  give(): void {
    if (this.status === undefined) return;
    this.response.statusCode = this.status;
    if (reasonOf(this.response) !== this.reason) setReason(this.response, this.reason);
  }

  /**
   * Adds headers beside or instead of its own, and writes what the response itself cannot keep.
   * @param size of the body, if it is known
   */
  complete(size?: number, more: Readonly<Record<string, string>> = NOTHING_MORE): void {
    const { response, given } = this;
    if (!given) {
      for (const name in more) response.setHeader(name, more[name] ?? '');
      return;
    }
    const replaced = new Set(Object.keys(more).map((name) => name.toLowerCase()));
    const others = given.filter(([name]) => !replaced.has(name.toLowerCase()));
    writeHeaderLines(response, [...others, ...Object.entries(more)], size);
  }

  lines(): readonly HeaderLine[] {
    return this.given ?? this.all ?? headerLinesOf(this.response);
  }

  /** Held whole, it goes with its length, as its replay does, also where Node would send it in chunks. */
  frame(size: number, lengthRemoved: boolean): void {
    const { response, hold } = this;
    if (!hasBody(response, this.status ?? response.statusCode)) return;
    if (this.given) {
      const names = this.given.map(([name]) => name.toLowerCase());
      if (!names.includes('trailer'))
        this.given = this.given.filter((_, index) => names[index] !== 'transfer-encoding');
      return;
    }
    const chunked = response.getHeader('transfer-encoding') === 'chunked';
    const lengthless = lengthRemoved && !response.hasHeader('content-length');
    if (!(chunked || lengthless) || response.hasHeader('trailer')) return;
    this.all = undefined;
    hold.call('removeHeader', 'transfer-encoding');
    hold.call('setHeader', 'Content-Length', size);
  }

  /** As Node takes them: each line as it is if no header was set before, else merged with those. */
  private take(given: unknown): void {
    const { response, hold } = this;
    const untouched = isUntouched(response);
    let lines: HeaderLine[] = [];
    this.accepts(() => (lines = linesOf(given, untouched || isHttp2(response))));
    if (!untouched) lines = lines.filter(([name]) => name);
    if (isRepeated(lines)) {
      if (untouched) {
        this.given = lines.filter((line) => this.accepts(() => assertHeaderLine(line)));
        return;
      }
      if (Array.isArray(given) && (isHttp2(response) || listsAppend())) {
        for (const [name] of lines) this.accepts(() => hold.call('removeHeader', name));
        for (const [name, value] of lines) this.accepts(() => hold.call('appendHeader', name, value));
        return;
      }
    }
    try {
      for (const [name, value] of lines) this.set(name, value);
      if (untouched && !this.refused) this.all = lines;
    } catch (error) {
      // Node refuses such a head as a whole, so nothing of it is left for the error that goes in its place.
      if (untouched) for (const name of response.getHeaderNames()) hold.call('removeHeader', name);
      throw error;
    }
  }

  private set(name: string, value: HeaderLine[1]): void {
    try {
      this.hold.call('setHeader', name, value);
    } catch (error) {
      this.refuse(error);
    }
  }

  /**
   * What Node refuses in a head that is given whole fails its writer, who can answer with an error instead. That error
   * goes without it: Fastify keeps what was refused, and would fail again where no code catches it, which ends the
   * process.
   */
  private accepts(step: () => unknown): boolean {
    try {
      step();
      return true;
    } catch (error) {
      this.refuse(error);
      return false;
    }
  }

  private refuse(error: unknown): void {
    if (this.refused) return;
    this.refused = true;
    throw error;
  }
}

/** Which Node keeps, also for an error that goes in this head's place. */
function reasonFor(status: number, given: string | undefined): string {
  if (given !== undefined && given !== '') return given;
  return STATUS_CODES[status] ?? 'unknown';
}
