/** A parameter as the server reads it: text, bytes or NULL. */
export type Value = string | Buffer | null;

export interface PipelinedStatement {
  readonly text: string;
  readonly values: readonly Value[];
  /** Under which it is prepared, once for each connection. Undefined: it is parsed each time. */
  readonly name: string | undefined;
}

const TEXT = 0;
const BYTES = 1;
const UNNAMED = 1; // the NUL that ends it

/** How long each message is without its names, texts and values. */
const HEAD = 5;
const SYNC = HEAD;
const EXECUTE = HEAD + UNNAMED + 4;

/**
 * The messages that have a server run these statements, with one Sync behind them, as one piece: a socket that is given
 * many small ones takes several times as long.
 * @param isPrepared whether the session has a statement of this name already
 */
export function messagesOf(
  statements: readonly PipelinedStatement[],
  isPrepared: (name: string) => boolean,
): Buffer {
  let size = SYNC;
  for (const { name = '', text, values } of statements) {
    if (!isPrepared(name)) size += closeSize(name) + parseSize(name, text);
    size += bindSize(name, values) + EXECUTE;
  }
  const writer = new MessageWriter(size);
  for (const { name = '', text, values } of statements) {
    if (!isPrepared(name)) {
      // One whose Parse was answered, but not its Execute, may be there already.
      writer.begin('C', closeSize(name)).text('S').name(name);
      writer.begin('P', parseSize(name, text)).name(name).name(text).int16(0);
    }
    writer.begin('B', bindSize(name, values)).name('').name(name).int16(values.length);
    for (const value of values) writer.int16(typeof value === 'object' && value !== null ? BYTES : TEXT);
    writer.int16(values.length);
    for (const value of values) writer.value(value);
    writer.int16(0); // all columns as text
    writer.begin('E', EXECUTE).name('').int32(0);
  }
  writer.begin('S', SYNC);
  return writer.bytes;
}

const closeSize = (name: string): number => HEAD + 1 + Buffer.byteLength(name) + 1;

const parseSize = (name: string, text: string): number =>
  HEAD + Buffer.byteLength(name) + 1 + Buffer.byteLength(text) + 1 + 2;

function bindSize(name: string, values: readonly Value[]): number {
  let size = HEAD + UNNAMED + Buffer.byteLength(name) + 1 + 2 + 2 * values.length + 2 + 2;
  for (const value of values) size += 4 + lengthOf(value);
  return size;
}

function lengthOf(value: Value): number {
  if (value === null) return 0;
  return typeof value === 'string' ? Buffer.byteLength(value) : value.length;
}

class MessageWriter {
  readonly bytes: Buffer;
  private at = 0;

  constructor(size: number) {
    this.bytes = Buffer.allocUnsafe(size);
  }

  /** @param size of the whole message; its own length does not count its type */
  begin(type: string, size: number): this {
    return this.text(type).int32(size - 1);
  }

  text(text: string): this {
    this.at += this.bytes.write(text, this.at);
    return this;
  }

  /** Text with the NUL that ends it. */
  name(text: string): this {
    this.text(text);
    this.at = this.bytes.writeUInt8(0, this.at);
    return this;
  }

  int16(value: number): this {
    this.at = this.bytes.writeInt16BE(value, this.at);
    return this;
  }

  int32(value: number): this {
    this.at = this.bytes.writeInt32BE(value, this.at);
    return this;
  }

  value(value: Value): this {
    if (value === null) return this.int32(-1);
    this.int32(lengthOf(value));
    if (typeof value === 'string') return this.text(value);
    this.at += value.copy(this.bytes, this.at);
    return this;
  }
}
