/** `disabled`: switched off by an option or by the environment. */
export type TierHealth = 'up' | 'down' | 'disabled';

export interface HealthReport {
  readonly redis: TierHealth;
  readonly postgres: TierHealth;
  /** Of the `store` that the application has in place of both, if it has one. */
  readonly store?: TierHealth;
}

/** What `@nestjs/terminus` takes from an indicator: its status under its name. */
export type HealthIndication<Key extends string = string> = Record<
  Key,
  HealthReport & { readonly status: 'up' | 'down' }
>;

/** Whether the tiers answer, for a health endpoint. To be injected. */
export abstract class IdempotencyHealth {
  /**
   * Asks both tiers now, over the path that requests take, and never rejects. With Postgres `down`, new keys are
   * refused (or run unprotected, by `onOutage`); with Redis `down`, everything works and replays cost more.
   */
  abstract check(): Promise<HealthReport>;

  /**
   * {@link check} as an indicator of `@nestjs/terminus`: `health.check([() => idempotency.isHealthy()])`. It is `down`
   * while the store that decides is: Postgres, Redis where Postgres is disabled, or the application's own. Never rejects.
   * @param key its name in the report @default 'idempotency'
   */
  async isHealthy<Key extends string = 'idempotency'>(
    key: Key = 'idempotency' as Key,
  ): Promise<HealthIndication<Key>> {
    const report = await this.check();
    const { store, postgres, redis } = report;
    const decides = store ?? (postgres === 'disabled' ? redis : postgres);
    const indication = { status: decides === 'up' ? ('up' as const) : ('down' as const), ...report };
    return { [key]: indication } as HealthIndication<Key>;
  }
}

/** {@link IdempotencyHealth} of what gives its reports. */
export class ReportedHealth extends IdempotencyHealth {
  constructor(private readonly report: () => Promise<HealthReport>) {
    super();
  }

  check(): Promise<HealthReport> {
    return this.report();
  }
}
