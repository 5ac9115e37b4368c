import type { Change } from '../core/audit';
import type { Digest } from '../core/digest';
import { IdempotencySetupError, StoreError } from '../core/errors';
import type { Explanation, RequestDescription } from '../core/explanation';
import { recordId, type RecordId } from '../core/record';
import type {
  RecordDirectory,
  RecordPage,
  RecordSummary,
  SelectedRecord,
  StatsOptions,
} from '../core/record-directory';
import { routeOf } from '../core/scope-parts';
import { settleOrphan } from '../core/settle-orphan';
import { assertOpen, invalid } from '../options/service-arguments';
import { resolvedOutcome, type Resolution } from '../outcome/resolution';
import type { TieredStoreService } from '../store/tiered-store.service';
import type { AuditLog } from './audit-log';
import { hitRateOf } from './hit-rate';
import {
  IdempotencyAdmin,
  type AdminStats,
  type ListOptions,
  type PurgeProgress,
  type PurgeReport,
  type RecordDetails,
  type RecordFilter,
  type RecordReference,
} from './idempotency-admin';
import { selectionToList, selectionToPurge } from './selection';

const WHERE = 'IdempotencyAdmin';
const DEFAULT_SCOPE = 'execute';
const DEFAULT_LIMIT = 50;
/** Records that are purged together. */
const TOGETHER = 256;

const STOPPED = 'it was stopped before it had looked at all records';

/** Batches in a row without an answer that end a purge: each costs the time-out of a statement. */
const SILENT_BATCHES = 3;
const SILENT = 'the store that decides did not answer several times in a row';

/** Counts of the requests that this process has answered. */
export interface Traffic {
  readonly executed: number;
  readonly replayed: number;
}

export interface AdminSources {
  readonly store: TieredStoreService;
  readonly digest: Digest;
  readonly audit: AuditLog;
  /** Undefined where this process serves no requests. */
  readonly traffic?: Traffic;
  readonly explain?: (request: RequestDescription) => Promise<Explanation>;
}

/** {@link IdempotencyAdmin} over both tiers. */
export class RecordAdmin extends IdempotencyAdmin {
  constructor(private readonly sources: AdminSources) {
    super();
  }

  async list(options: ListOptions = {}): Promise<RecordPage> {
    const { selection, limit = DEFAULT_LIMIT, cursor } = selectionToList(`${WHERE}.list`, options);
    return this.directory('list').list(selection, limit, cursor);
  }

  async show(reference: RecordReference): Promise<RecordDetails | undefined> {
    const directory = this.directory('show');
    const summary = await this.summaryOf(this.idOf('show', reference), directory);
    if (!summary) return undefined;
    const { scope, key, hash } = summary;
    const id: RecordId = { scope, key, hash };
    const [record, copy] = await Promise.all([this.sources.store.findInArbiter(id), this.copyOf(id)]);
    if (!record) return undefined;
    const outcome = record.state === 'completed' ? record.outcome : undefined;
    return { ...summary, fingerprint: record.fingerprint, outcome, copy };
  }

  resolve(
    reference: RecordReference,
    resolution: Exclude<Resolution, 'retry'>,
    change: Change,
  ): Promise<boolean> {
    return this.settle('resolve', reference, resolution, change);
  }

  retry(reference: RecordReference, change: Change): Promise<boolean> {
    return this.settle('retry', reference, 'retry', change);
  }

  async forget(reference: RecordReference, change: Change): Promise<boolean> {
    const { store } = this.sources;
    return this.change('forget', reference, change, (id) => store.forgetKey(id));
  }

  async purge(
    filter: RecordFilter,
    change: Change,
    onProgress: (progress: PurgeProgress) => void = () => undefined,
    signal?: AbortSignal,
  ): Promise<PurgeReport> {
    const selection = selectionToPurge(`${WHERE}.purge`, filter);
    assertChange('purge', change);
    const directory = this.directory('purge');
    const report = emptyReport();
    let silent = 0;
    const walk = async (): Promise<PurgeReport> => {
      try {
        for await (const { records, progress } of directory.walk(selection)) {
          for (let at = 0; at < records.length; at += TOGETHER) {
            if (signal?.aborted) return endedEarly(report, STOPPED);
            const answered = await this.purgeTogether(records.slice(at, at + TOGETHER), report);
            silent = answered ? 0 : silent + 1;
            if (silent === SILENT_BATCHES) return endedEarly(report, SILENT);
          }
          onProgress({ read: progress, purged: report.purged });
          if (signal?.aborted && progress < 1) return endedEarly(report, STOPPED);
        }
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        return endedEarly(report, error.message);
      }
      return report;
    };
    await this.sources.audit.begin(change, { action: 'purge', filter });
    return this.sources.audit.record(change, walk, (ended) => ({
      action: 'purge',
      filter,
      purged: report.purged,
      left: leftBy(report),
      ...(ended?.complete === false && { result: 'stopped' }),
    }));
  }

  async stats({ wholeTable = false }: StatsOptions = {}): Promise<AdminStats> {
    const stats = await this.directory('stats').stats({ wholeTable });
    const { traffic } = this.sources;
    if (!traffic) return { ...stats, requests: undefined };
    const { executed, replayed } = traffic;
    return { ...stats, requests: { executed, replayed, hitRate: hitRateOf(replayed, executed) } };
  }

  async explain(request: RequestDescription): Promise<Explanation> {
    assertOpen(this.sources.store.phase, WHERE);
    const { explain } = this.sources;
    if (!explain)
      throw new IdempotencySetupError('this process serves no requests, so none can be explained.');
    return explain(request);
  }

  private async settle(
    action: 'resolve' | 'retry',
    reference: RecordReference,
    resolution: Resolution,
    change: Change,
  ): Promise<boolean> {
    const outcome = resolvedOutcome(resolution);
    if (action === 'resolve' && !outcome)
      throw invalid(`${WHERE}.resolve`, 'outcome', resolution, '{ value } or { status, headers, body }');
    const { store } = this.sources;
    return this.change(action, reference, change, async (id) => {
      const record = await store.findInArbiter(id);
      return record !== undefined && settleOrphan(store, record, outcome);
    });
  }

  /** Makes a change of one record, and records it where it has changed something, or may have. */
  private async change(
    action: 'resolve' | 'retry' | 'forget',
    reference: RecordReference,
    change: Change,
    make: (id: RecordId) => Promise<boolean>,
  ): Promise<boolean> {
    const given = this.idOf(action, reference);
    assertChange(action, change);
    const summary = await this.summaryOf(given);
    if (!summary && isHashAlone(given) && this.sources.store.directory) return false;
    // A hash alone does not say what Postgres needs should it have lost the row meanwhile.
    const id = summary ? { hash: given.hash, scope: summary.scope, key: summary.key } : given;
    const record = { hash: id.hash, route: routeOf(id.scope) };
    return this.sources.audit.record(
      change,
      () => make(id),
      (changed) => (changed === false ? undefined : { action, record }),
    );
  }

  /** A hash may name a record of another namespace, which shares the table: that is none of ours. */
  private async summaryOf(
    id: RecordId,
    directory = this.sources.store.directory,
  ): Promise<RecordSummary | undefined> {
    const summary = await directory?.find(id.hash);
    if (!summary || !isHashAlone(id)) return summary;
    return this.sources.digest.idOf(summary.scope, summary.key) === id.hash ? summary : undefined;
  }

  /** @returns whether the store that decides has answered */
  private async purgeTogether(records: readonly SelectedRecord[], report: Counting): Promise<boolean> {
    const claims = records.filter(({ inFlight }) => !inFlight).map(({ claim }) => claim);
    report.inFlight += records.length - claims.length;
    const { purged, copies, changed, unreachable } = await this.sources.store.purge(claims);
    report.purged += purged;
    report.copies += copies;
    report.changed += changed;
    report.unreachable.redis += unreachable.redis;
    report.unreachable.arbiter += unreachable.arbiter;
    return unreachable.arbiter === 0 || purged + changed > 0;
  }

  private async copyOf(id: RecordId): Promise<RecordDetails['copy']> {
    try {
      const copy = await this.sources.store.findInCache(id);
      return copy?.state === 'completed' && copy.pending ? 'pending' : copy?.state;
    } catch (error) {
      if (error instanceof StoreError) return 'unreachable';
      throw error;
    }
  }

  private directory(method: string): RecordDirectory {
    const { store } = this.sources;
    assertOpen(store.phase, WHERE);
    if (store.directory) return store.directory;
    throw new IdempotencySetupError(
      `IdempotencyAdmin.${method} looks through the table in Postgres, which is not used here. With Redis alone, or a ` +
        'store of your own that has no `directory`, IdempotencyService.find, resolve and forget reach a record by its ' +
        'key and scope.',
    );
  }

  private idOf(method: string, reference: unknown): RecordId {
    assertOpen(this.sources.store.phase, WHERE);
    if (typeof reference === 'string' && /^[0-9a-f]{64}$/i.test(reference))
      return { scope: '', key: '', hash: reference.toLowerCase() };
    const { key, scope = DEFAULT_SCOPE } = (
      typeof reference === 'object' && reference ? reference : {}
    ) as Partial<Record<'key' | 'scope', unknown>>;
    if (typeof key === 'string' && typeof scope === 'string')
      return recordId(scope, key, this.sources.digest);
    throw invalid(
      `${WHERE}.${method}`,
      'record',
      reference,
      'the hash of a record (64 hexadecimal digits), or { key, scope }',
    );
  }
}

type Counting = { -readonly [K in keyof PurgeReport]: PurgeReport[K] } & {
  unreachable: { redis: number; arbiter: number };
};

function emptyReport(): Counting {
  return {
    purged: 0,
    copies: 0,
    inFlight: 0,
    changed: 0,
    unreachable: { redis: 0, arbiter: 0 },
    complete: true,
    error: undefined,
  };
}

/** Records that are still there, as far as is known. */
export function leftBy({ inFlight, changed, unreachable }: PurgeReport): number {
  return inFlight + changed + unreachable.redis + unreachable.arbiter;
}

function endedEarly(report: Counting, error: string): PurgeReport {
  return Object.assign(report, { complete: false, error });
}

function assertChange(method: string, change: unknown): void {
  const { by, reason } = (typeof change === 'object' && change ? change : {}) as Partial<
    Record<keyof Change, unknown>
  >;
  if (typeof by !== 'string' || by === '' || typeof reason !== 'string')
    throw invalid(`${WHERE}.${method}`, 'change', change, '{ by, reason }: who does it, and why');
}

function isHashAlone({ scope, key }: RecordId): boolean {
  return scope === '' && key === '';
}
