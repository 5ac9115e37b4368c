/** `disabled`: switched off by an option or by the environment. */
export type TierHealth = 'up' | 'down' | 'disabled';

export interface HealthReport {
  readonly redis: TierHealth;
  readonly postgres: TierHealth;
}

/** Whether the tiers answer, for a health endpoint. */
export class IdempotencyHealth {
  constructor(private readonly probe: () => Promise<HealthReport>) {}

  /**
   * Asks both tiers now, over the path that requests take, and never rejects. With Postgres `down`, new keys are
   * refused (or run unprotected, by `onOutage`); with Redis `down`, everything works and replays cost more.
   */
  check(): Promise<HealthReport> {
    return this.probe();
  }
}
