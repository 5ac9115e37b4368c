/** `disabled`: switched off by an option or by the environment. */
export type TierHealth = 'up' | 'down' | 'disabled';

export interface HealthReport {
  readonly redis: TierHealth;
  readonly postgres: TierHealth;
  /** Of the `store` that the application has in place of both, if it has one. */
  readonly store?: TierHealth;
}

/** Whether the tiers answer, for a health endpoint. To be injected. */
export abstract class IdempotencyHealth {
  /**
   * Asks both tiers now, over the path that requests take, and never rejects. With Postgres `down`, new keys are
   * refused (or run unprotected, by `onOutage`); with Redis `down`, everything works and replays cost more.
   */
  abstract check(): Promise<HealthReport>;
}
