import type { Outcome } from './record';

/** How the first request of a key in this process ended, for those that waited on it. */
export type Landing =
  | { readonly kind: 'outcome'; readonly outcome: Outcome }
  | { readonly kind: 'released' }
  | { readonly kind: 'failed'; readonly error: unknown };

/** A request of this process that is on its way through the protocol. */
export interface Flight {
  readonly fingerprint: string;
  readonly landed: Promise<Landing>;
}

/**
 * The requests under way in this process, by record. Duplicates join the first instead of asking the stores,
 * so that a storm of one key costs one claim.
 */
export class Flights {
  private readonly underWay = new Map<string, Flight>();

  get(hash: string): Flight | undefined {
    return this.underWay.get(hash);
  }

  /** Runs `lead` as the flight of this record; if there is one already (of another fingerprint), runs it beside. */
  async lead<T>(
    hash: string,
    fingerprint: string,
    lead: () => Promise<T>,
    landing: (result: T) => Landing,
  ): Promise<T> {
    if (this.underWay.has(hash)) return lead();
    let land!: (landing: Landing) => void;
    const landed = new Promise<Landing>((resolve) => (land = resolve));
    this.underWay.set(hash, { fingerprint, landed });
    try {
      const result = await lead();
      land(landing(result));
      return result;
    } catch (error) {
      land({ kind: 'failed', error });
      throw error;
    } finally {
      this.underWay.delete(hash);
    }
  }
}
