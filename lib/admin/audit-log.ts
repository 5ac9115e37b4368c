import type { AuditEvent, AuditHook, Change } from '../core/audit';
import { settledWithin } from '../core/settled-within';
import { visible } from '../core/visible';
import { SafeLogger } from '../observability/safe-logger';

/** Milliseconds for which a change waits for the hook. */
const HOOK_TIMEOUT = 10_000;

type Deed = Omit<AuditEvent, 'at' | 'by' | 'reason' | 'result'> & Partial<Pick<AuditEvent, 'result'>>;

/** Writes each change that an operator makes to the log, and tells the application's `audit` option. */
export class AuditLog {
  private readonly logger = new SafeLogger('Idempotency');

  constructor(
    private readonly hook: AuditHook | undefined,
    private readonly timeout = HOOK_TIMEOUT,
  ) {}

  /**
   * Makes a change and records it.
   * @param deedOf what was done; undefined if nothing was changed. Told undefined where an error came meanwhile
   */
  async record<T>(
    why: Change,
    change: () => Promise<T>,
    deedOf: (result: T | undefined) => Deed | undefined,
  ): Promise<T> {
    try {
      const result = await change();
      await this.tell(why, 'done', deedOf(result));
      return result;
    } catch (error) {
      await this.tell(why, 'unknown', deedOf(undefined));
      throw error;
    }
  }

  /** Records that a change is about to be made, which may be interrupted. */
  begin(why: Change, deed: Deed): Promise<void> {
    return this.tell(why, 'begun', deed);
  }

  /** A hook that fails or hangs cannot undo the change, so it is logged. The key and the filter stay out of the log. */
  private async tell({ by, reason }: Change, usual: AuditEvent['result'], deed?: Deed): Promise<void> {
    if (!deed) return;
    const event: AuditEvent = { at: new Date(), by, reason, result: usual, ...deed };
    const { action, record, purged, left, result } = event;
    const what = record
      ? `${record.route ?? 'no HTTP route'}, record ${record.hash}`
      : purged === undefined
        ? 'records'
        : `${purged} records, ${left ?? 0} left`;
    this.logger.warn(
      visible(`Audit: ${action} (${result}) of ${what}, by ${JSON.stringify(by)}: ${JSON.stringify(reason)}`),
    );
    await this.tellHook(event);
  }

  private async tellHook(event: AuditEvent): Promise<void> {
    const told = (async () => this.hook?.(event))();
    told.catch((error: unknown) =>
      this.logger.error('The `audit` option failed; the change is made anyway', error),
    );
    if (await settledWithin(told, this.timeout)) return;
    this.logger.error(
      `The \`audit\` option has not ended within ${this.timeout} ms; the change is made anyway`,
    );
  }
}
