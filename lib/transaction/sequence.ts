import type { Client } from 'pg';
import {
  UnconfirmedCommitError,
  waitsForStandby,
  type Notice,
} from '../store/postgres/connection/unconfirmed-commit';
import type { PipelinedStatement } from './messages';
import type { OnEnd, StatementResult } from './pipeline';

/** What pg's types do not know: its clients tell of notices, and take parsers for one query. */
interface Sender {
  on(event: 'notice', listener: (notice: Notice) => void): void;
  removeListener(event: 'notice', listener: (notice: Notice) => void): void;
  query(
    query: {
      text: string;
      values: unknown[];
      rowMode: 'array';
      types: { getTypeParser(): (text: string) => string };
    },
    callback: (error: unknown, result: { command: string; rows: (string | null)[][] }) => void,
  ): void;
}

/** As the server sends it. */
const types = { getTypeParser: () => (text: string) => text };

/**
 * The same as {@link Pipeline} for clients that take whole queries only: each statement is sent once the one before it
 * has succeeded, which takes a round trip more for each. Without names, as a pooler may be what the client stands for.
 */
export class Sequence {
  private readonly results: StatementResult[] = [];
  private readonly client: Sender;
  private ended = false;
  private unconfirmed = false;

  constructor(
    client: Client,
    private readonly statements: readonly PipelinedStatement[],
    private readonly onEnd: OnEnd,
  ) {
    this.client = client;
  }

  send(): void {
    this.client.on('notice', this.noticed);
    this.sendNext();
  }

  readonly callback = (error?: unknown): void => {
    if (this.ended) return;
    this.ended = true;
    this.client.removeListener('notice', this.noticed);
    this.onEnd(error, this.results, true);
  };

  private sendNext(): void {
    const statement = this.statements[this.results.length];
    if (!statement) return this.callback(this.unconfirmed ? new UnconfirmedCommitError() : undefined);
    const { text, values } = statement;
    this.client.query({ text, values: [...values], rowMode: 'array', types }, (error, result) => {
      if (this.ended) return;
      if (error) return this.callback(error);
      this.results.push({ tag: result.command, rows: result.rows });
      this.sendNext();
    });
  }

  private readonly noticed = (notice: Notice): void => {
    this.unconfirmed ||= waitsForStandby(notice);
  };
}
