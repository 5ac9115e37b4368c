export interface Notice {
  /** The place in the server's source, which no language changes. */
  readonly routine?: string;
}

/** Whether it says that a commit was cancelled while it waited for a standby. */
export function waitsForStandby({ routine }: Notice): boolean {
  return routine === 'SyncRepWaitForLSN';
}

/**
 * A commit was cancelled while it waited for a synchronous standby, by a statement_timeout for example. Postgres says that
 * it succeeded, and warns that the standby may not have it.
 */
export class UnconfirmedCommitError extends Error {
  constructor() {
    super('the commit was not confirmed by the synchronous standby');
    this.name = 'UnconfirmedCommitError';
  }
}
