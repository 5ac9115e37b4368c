import { connect, type Socket } from 'node:net';

export interface RawAnswer {
  readonly status: number;
  /** As they came, in order. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: Buffer;
  readonly text: string;
  readonly replayed: boolean;
}

export interface RawRequest {
  readonly method?: string;
  /** The request target as it stands on the first line. */
  readonly target: string;
  readonly version?: '1.0' | '1.1';
  readonly headers?: readonly (readonly [name: string, value: string])[];
  /** Header lines as they stand, with no blank put behind the colon; each character is one byte. */
  readonly lines?: readonly string[];
  readonly body?: string | Uint8Array;
  /** Sends the body in pieces of this size, as `Transfer-Encoding: chunked`. */
  readonly chunked?: number;
}

const PATIENCE = 10_000;

/** The bytes of a request, with nothing checked that Node's own client would refuse to send. */
export function bytesOfRequest({
  method = 'POST',
  target,
  version = '1.1',
  headers = [],
  lines = [],
  body,
  chunked,
}: RawRequest): Buffer {
  const bytes = body === undefined ? undefined : Buffer.from(body as Uint8Array);
  const framing: (readonly [string, string])[] = [];
  if (bytes)
    framing.push(chunked ? ['Transfer-Encoding', 'chunked'] : ['Content-Length', String(bytes.length)]);
  if (version === '1.1') framing.unshift(['Host', 'test']);
  const fields = [...framing, ...headers].map(([name, value]) => `${name}: ${value}`);
  const head = [`${method} ${target} HTTP/${version}`, ...fields, ...lines, '', ''].join('\r\n');
  const written = Buffer.from(head, 'latin1');
  if (!bytes) return written;
  return Buffer.concat([written, chunked ? inChunks(bytes, chunked) : bytes]);
}

function inChunks(bytes: Buffer, size: number): Buffer {
  const chunks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    const chunk = bytes.subarray(at, at + size);
    chunks.push(Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from('\r\n'));
  }
  return Buffer.concat([...chunks, Buffer.from('0\r\n\r\n')]);
}

/** A client that says what it likes on a connection of its own, and reads one answer after the other. */
export class RawClient {
  private received = Buffer.alloc(0);
  private ended = false;
  private wake: () => void = () => undefined;

  private constructor(readonly socket: Socket) {
    socket.on('data', (chunk) => {
      this.received = Buffer.concat([this.received, chunk]);
      this.wake();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.ended = true;
      this.wake();
    });
  }

  static async open(url: string): Promise<RawClient> {
    const { hostname, port } = new URL(url);
    const socket = connect(Number(port), hostname);
    socket.setNoDelay(true);
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    return new RawClient(socket);
  }

  /** One request on a connection of its own. */
  static async ask(url: string, request: RawRequest): Promise<RawAnswer> {
    const client = await RawClient.open(url);
    try {
      return await client.ask(request);
    } finally {
      client.close();
    }
  }

  ask(request: RawRequest): Promise<RawAnswer> {
    this.write(bytesOfRequest(request));
    return this.answer(request.method);
  }

  write(bytes: string | Uint8Array): void {
    this.socket.write(bytes);
  }

  close(): void {
    this.socket.destroy();
  }

  /** Bytes that came and that no answer has claimed. */
  get unread(): number {
    return this.received.length;
  }

  /** The next answer on this connection, informational ones left out. */
  async answer(method = 'POST'): Promise<RawAnswer> {
    for (;;) {
      const end = await this.until(() => this.received.indexOf('\r\n\r\n'));
      const [first = '', ...lines] = this.received.toString('latin1', 0, end).split('\r\n');
      const status = Number(/^HTTP\/1\.[01] (\d{3})( |$)/.exec(first)?.[1]);
      if (Number.isNaN(status)) throw new Error(`no answer begins with ${JSON.stringify(first)}`);
      this.received = this.received.subarray(end + 4);
      if (status < 200) continue;
      const headers = lines.map((line): [string, string] => {
        const colon = line.indexOf(':');
        return [line.slice(0, colon), line.slice(colon + 1).trim()];
      });
      const bodiless = method === 'HEAD' || status === 204 || status === 304;
      const body = bodiless ? Buffer.alloc(0) : await this.body(headers);
      return {
        status,
        headers,
        body,
        text: body.toString(),
        replayed: valueOf(headers, 'idempotent-replayed') === 'true',
      };
    }
  }

  /** Resolves once the server has closed the connection. */
  async closed(): Promise<void> {
    await this.until(() => (this.ended ? 0 : -1));
  }

  private async body(headers: RawAnswer['headers']): Promise<Buffer> {
    if (valueOf(headers, 'transfer-encoding') === 'chunked') {
      const chunks: Buffer[] = [];
      for (;;) {
        const end = await this.until(() => this.received.indexOf('\r\n'));
        const size = parseInt(this.received.toString('latin1', 0, end), 16);
        await this.until(() => (this.received.length >= end + 2 + size + 2 ? 0 : -1));
        chunks.push(this.received.subarray(end + 2, end + 2 + size));
        this.received = this.received.subarray(end + 2 + size + 2);
        if (size === 0) return Buffer.concat(chunks);
      }
    }
    const length = valueOf(headers, 'content-length');
    if (length === undefined) await this.closed();
    const size = length === undefined ? this.received.length : Number(length);
    await this.until(() => (this.received.length >= size ? 0 : -1));
    const body = this.received.subarray(0, size);
    this.received = this.received.subarray(size);
    return body;
  }

  private async until(found: () => number): Promise<number> {
    const deadline = Date.now() + PATIENCE;
    for (;;) {
      const at = found();
      if (at >= 0) return at;
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`no answer within ${PATIENCE} ms`);
      if (this.ended) throw new Error('the connection was closed without an answer');
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }
}

/** What may not differ between an answer and its replay. */
export function sent({ status, headers, body }: RawAnswer): unknown {
  const varying = new Set(['date', 'idempotent-replayed', 'connection', 'keep-alive', 'transfer-encoding']);
  return {
    status,
    headers: headers.filter(([name]) => !varying.has(name.toLowerCase())),
    body: body.toString('base64'),
  };
}

function valueOf(headers: RawAnswer['headers'], name: string): string | undefined {
  return headers.find(([each]) => each.toLowerCase() === name)?.[1];
}
