import type { Client, Submittable } from 'pg';
import {
  UnconfirmedCommitError,
  waitsForStandby,
  type Notice,
} from '../store/postgres/connection/unconfirmed-commit';
import { messagesOf, type PipelinedStatement } from './messages';

/** What a statement has done; its rows are the texts that the server sent. */
export interface StatementResult {
  /** Such as `COMMIT`. What follows that word, such as a number of rows, may be missing. */
  readonly tag: string;
  readonly rows: (readonly (string | null)[])[];
}

/** What is used of pg's connection. Its types know none of it. */
interface Wire {
  readonly stream: { write(bytes: Buffer): unknown };
  on(event: 'notice', listener: (notice: Notice) => void): void;
  removeListener(event: 'notice', listener: (notice: Notice) => void): void;
}

/** By client, the names of what is prepared in its session, and was executed since. */
const prepared = new WeakMap<Client, Set<string>>();

/**
 * Called once: without an error all statements were executed, else those of which there is a result.
 * @param sent whether they may have reached the server
 */
export type OnEnd = (error: unknown, results: readonly StatementResult[], sent: boolean) => void;

const ignore = (): void => undefined;

/** Whether bytes can be given to the client's own connection: not in pg's pipeline mode. */
export function canPipeline(client: Client): boolean {
  return !(client as { pipeline?: boolean }).pipeline;
}

/**
 * Several statements that are sent together and answered in one round trip. After one that fails the server skips the
 * rest. pg's client takes it as it takes a cursor, so no other query comes between them.
 */
export class Pipeline {
  readonly callback: (error?: unknown) => void;
  private readonly results: StatementResult[] = [];
  private rows: (readonly (string | null)[])[] = [];
  private readonly known: Set<string>;
  private wire: Wire | undefined;
  private sent = false;
  private unconfirmed = false;

  constructor(
    private readonly client: Client,
    private readonly statements: readonly PipelinedStatement[],
    onEnd: OnEnd,
  ) {
    this.known = prepared.get(client) ?? new Set();
    prepared.set(client, this.known);
    let ended = false;
    this.callback = (error) => {
      if (ended) return;
      ended = true;
      this.wire?.removeListener('notice', this.noticed);
      onEnd(error, this.results, this.sent);
    };
  }

  send(): void {
    this.client.query(this as unknown as Submittable);
  }

  submit(wire: Wire): void {
    this.sent = true;
    this.wire = wire;
    wire.on('notice', this.noticed);
    wire.stream.write(messagesOf(this.statements, (name) => this.known.has(name)));
  }

  handleDataRow({ fields }: { fields: (string | null)[] }): void {
    this.rows.push(fields);
  }

  handleCommandComplete({ text }: { text: string }): void {
    const name = this.statements[this.results.length]?.name;
    if (name) this.known.add(name);
    this.results.push({ tag: text, rows: this.rows });
    this.rows = [];
  }

  handleError(error: unknown): void {
    this.callback(error);
  }

  handleReadyForQuery(): void {
    if (this.unconfirmed) this.callback(new UnconfirmedCommitError());
    else this.callback();
  }

  private readonly noticed = (notice: Notice): void => {
    this.unconfirmed ||= waitsForStandby(notice);
  };

  // pg calls these, too. The columns are known, no portal is left open, and nothing is copied.
  readonly handleRowDescription = ignore;
  readonly handlePortalSuspended = ignore;
  readonly handleEmptyQuery = ignore;
  readonly handleCopyInResponse = ignore;
  readonly handleCopyData = ignore;
}

/** Has all statements of this client prepared anew, for example as their plans are old. */
export function forgetPrepared(client: Client): void {
  prepared.delete(client);
}
