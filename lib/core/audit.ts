/** Who changes records by hand, and why. */
export interface Change {
  /** Who does it, such as the name of an operator. */
  readonly by: string;
  /** Why, such as the number of a ticket. */
  readonly reason: string;
}

/** A change that an operator has made. */
export interface AuditEvent extends Change {
  /** By this process' clock. */
  readonly at: Date;
  readonly action: 'resolve' | 'retry' | 'forget' | 'purge';
  /**
   * `begun`: a purge is about to delete; a second event says how it ended, unless the process is killed. `stopped`: it
   * ended early, as a store failed or its caller stopped it. `unknown`: an error came meanwhile, so the change may have
   * been made or not.
   */
  readonly result: 'begun' | 'done' | 'stopped' | 'unknown';
  /** The record that was changed; undefined for a purge. */
  readonly record?: { readonly hash: string; readonly route: string | undefined };
  /** Of a purge: which records, as it was asked. It may name a person. */
  readonly filter?: unknown;
  /** Of a purge that has ended: records that were deleted. */
  readonly purged?: number;
  /** The same: records that it came to and left, as they were in flight, changed meanwhile, or not reached. */
  readonly left?: number;
}

/** Told of each change that an operator makes, once it is made; of a purge also before. */
export type AuditHook = (event: AuditEvent) => void | Promise<void>;
