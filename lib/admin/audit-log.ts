import type { AuditEvent, AuditHook, Change } from '../core/audit';
import { StoreError } from '../core/errors';
import { SafeLogger } from '../observability/safe-logger';

type Deed = Omit<AuditEvent, 'at' | 'by' | 'reason' | 'result'>;

/** Writes each change that an operator makes to the log, and tells the application's `audit` option. */
export class AuditLog {
  private readonly logger = new SafeLogger('Idempotency');

  constructor(private readonly hook: AuditHook | undefined) {}

  /**
   * Makes a change and records it.
   * @param deedOf what was done; undefined if nothing was changed. Told undefined where a store failed meanwhile
   */
  async record<T>(
    { by, reason }: Change,
    change: () => Promise<T>,
    deedOf: (result: T | undefined) => Deed | undefined,
  ): Promise<T> {
    const tell = (deed: Deed | undefined, result: AuditEvent['result']): Promise<void> | undefined =>
      deed && this.tell({ at: new Date(), by, reason, result, ...deed });
    try {
      const result = await change();
      await tell(deedOf(result), 'done');
      return result;
    } catch (error) {
      if (error instanceof StoreError) await tell(deedOf(undefined), 'unknown');
      throw error;
    }
  }

  /** A hook that fails cannot undo the change, so it is logged. The key and the filter stay out of the log. */
  private async tell(event: AuditEvent): Promise<void> {
    const { action, record, purged, by, reason, result } = event;
    const what = record
      ? `${record.route ?? 'no HTTP route'}, record ${record.hash}`
      : `${purged ?? '?'} records`;
    this.logger.warn(
      `Audit: ${action} (${result}) of ${what}, by ${JSON.stringify(by)}: ${JSON.stringify(reason)}`,
    );
    try {
      await this.hook?.(event);
    } catch (error) {
      this.logger.error('The `audit` option failed; the change was made anyway', error);
    }
  }
}
