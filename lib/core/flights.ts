import type { Outcome } from './record';

/** How the first request of a key in this process ended, for those that waited on it. */
export type Landing =
  | { readonly kind: 'outcome'; readonly outcome: Outcome }
  | { readonly kind: 'released' }
  | { readonly kind: 'failed'; readonly error: unknown };

/** A request of this process that is on its way through the protocol. */
export class Flight {
  private landing: Landing | undefined;
  private waiting:
    { readonly landed: Promise<Landing>; readonly land: (landing: Landing) => void } | undefined;

  constructor(readonly fingerprint: string) {}

  /** Made when it is asked for: most requests have no duplicate that waits for them. */
  get landed(): Promise<Landing> {
    if (this.landing) return Promise.resolve(this.landing);
    if (!this.waiting) {
      let land!: (landing: Landing) => void;
      const landed = new Promise<Landing>((resolve) => (land = resolve));
      this.waiting = { landed, land };
    }
    return this.waiting.landed;
  }

  land(landing: Landing): void {
    this.landing = landing;
    this.waiting?.land(landing);
  }
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
    const flight = new Flight(fingerprint);
    this.underWay.set(hash, flight);
    try {
      const result = await lead();
      flight.land(landing(result));
      return result;
    } catch (error) {
      flight.land({ kind: 'failed', error });
      throw error;
    } finally {
      this.underWay.delete(hash);
    }
  }
}
