import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** A response as it came over the wire. */
export interface WireResponse {
  readonly statusLine: string;
  readonly status: number;
  readonly headerLines: readonly string[];
  /** With the framing of its chunks, if it has any. */
  readonly rawBody: Buffer;
  /** Without that framing. */
  readonly body: Buffer;
  readonly trailerLines: readonly string[];
  /** Status lines of the interim responses (1xx) that came before it. */
  readonly interim: readonly string[];
}

export interface WireRequest {
  readonly method?: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
}

/** One connection, spoken without an HTTP library, so that nothing between the server and the test tidies up. */
export class Wire {
  private received = Buffer.alloc(0);
  private closed = false;

  private constructor(readonly socket: Socket) {
    socket.on('data', (bytes) => {
      this.received = Buffer.concat([this.received, bytes]);
    });
    socket.on('error', () => undefined);
    socket.on('close', () => (this.closed = true));
  }

  static async open(url: string): Promise<Wire> {
    const { hostname, port } = new URL(url);
    const socket = connect(Number(port), hostname);
    socket.setNoDelay();
    await once(socket, 'connect');
    return new Wire(socket);
  }

  /** Sends a request and reads its whole response; the connection stays open for the next one. */
  async ask(request: WireRequest): Promise<WireResponse> {
    this.send(request);
    return this.read(request.method);
  }

  send({ method = 'POST', path, headers = {}, body }: WireRequest): void {
    const bytes = Buffer.from(body ?? '');
    const lines = Object.entries({ Host: 'test', ...headers }).map(
      ([name, value]) => `${name}: ${value}\r\n`,
    );
    if (body !== undefined) lines.push(`Content-Length: ${bytes.length}\r\n`);
    this.socket.write(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`);
    if (bytes.length > 0) this.socket.write(bytes);
  }

  async read(method = 'POST'): Promise<WireResponse> {
    const interim: string[] = [];
    for (;;) {
      const [statusLine = '', ...headerLines] = (await this.until('\r\n\r\n')).split('\r\n');
      const status = Number(statusLine.split(' ')[1]);
      if (status >= 200) return { ...(await this.rest(method, status, headerLines)), statusLine, interim };
      interim.push(statusLine);
    }
  }

  /** Resolves once something of the response has come. */
  async firstBytes(): Promise<void> {
    await this.atLeast(1);
  }

  /** Resolves once the connection is closed, with what had come by then and was not read. */
  async end(): Promise<Buffer> {
    while (!this.closed) await this.more();
    return this.received;
  }

  /** Leaves at once, as a client does that is killed. */
  leave(): void {
    this.socket.resetAndDestroy();
  }

  private async rest(
    method: string,
    status: number,
    headerLines: readonly string[],
  ): Promise<Omit<WireResponse, 'statusLine' | 'interim'>> {
    const none = Buffer.alloc(0);
    const head = { status, headerLines, trailerLines: [] };
    if (method === 'HEAD' || status === 204 || status === 304) return { ...head, rawBody: none, body: none };
    if (headerOf(headerLines, 'transfer-encoding') === 'chunked')
      return { ...head, ...(await this.chunks()) };
    const length = headerOf(headerLines, 'content-length');
    const body = length === undefined ? await this.end() : await this.take(Number(length));
    return { ...head, rawBody: body, body };
  }

  private async chunks(): Promise<Pick<WireResponse, 'rawBody' | 'body' | 'trailerLines'>> {
    const raw: Buffer[] = [];
    const content: Buffer[] = [];
    for (;;) {
      const size = await this.until('\r\n');
      raw.push(Buffer.from(`${size}\r\n`));
      if (parseInt(size, 16) === 0) break;
      const chunk = await this.take(parseInt(size, 16) + 2);
      raw.push(chunk);
      content.push(chunk.subarray(0, -2));
    }
    const trailerLines: string[] = [];
    for (let line = await this.until('\r\n'); line !== ''; line = await this.until('\r\n'))
      trailerLines.push(line);
    return { rawBody: Buffer.concat(raw), body: Buffer.concat(content), trailerLines };
  }

  private async until(mark: string): Promise<string> {
    let at = this.received.indexOf(mark);
    for (; at < 0; at = this.received.indexOf(mark)) await this.moreOrFail();
    const text = this.received.subarray(0, at).toString('latin1');
    this.received = this.received.subarray(at + mark.length);
    return text;
  }

  private async take(length: number): Promise<Buffer> {
    await this.atLeast(length);
    const bytes = this.received.subarray(0, length);
    this.received = this.received.subarray(length);
    return bytes;
  }

  private async atLeast(length: number): Promise<void> {
    while (this.received.length < length) await this.moreOrFail();
  }

  private async moreOrFail(): Promise<void> {
    if (this.closed) throw new Error(`The server ended the connection after: ${this.received.toString()}`);
    await this.more();
  }

  private async more(): Promise<void> {
    const either = new AbortController();
    const { signal } = either;
    await Promise.race([once(this.socket, 'data', { signal }), once(this.socket, 'close', { signal })]);
    either.abort();
  }
}

export function headerOf(headerLines: readonly string[], name: string): string | undefined {
  const line = headerLines.find((each) => each.toLowerCase().startsWith(`${name}:`));
  return line?.slice(name.length + 1).trim();
}

const MAY_DIFFER = ['date', 'idempotent-replayed'];
const OF_ONE_CALLER = ['set-cookie', 'www-authenticate'];

/** The response's bytes but for the lines that may differ between a first response and its replay. */
export function bytesOf(
  { statusLine, headerLines, rawBody, trailerLines }: WireResponse,
  without: readonly string[] = OF_ONE_CALLER,
): string {
  const left = [...MAY_DIFFER, ...without];
  const kept = headerLines.filter((line) => !left.includes(line.slice(0, line.indexOf(':')).toLowerCase()));
  return [statusLine, ...kept, '', rawBody.toString('latin1'), ...trailerLines].join('\r\n');
}

export function isReplayed({ headerLines }: WireResponse): boolean {
  return headerOf(headerLines, 'idempotent-replayed') === 'true';
}
