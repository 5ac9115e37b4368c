import { SafeLogger } from '../observability/safe-logger';

/** The names of work that is not an HTTP request are the application's, so there could be many. */
const MOST_NAMES = 100;

const NOTHING_WRITTEN =
  'is in the transaction mode, but its handler has written nothing in its transaction. What it writes ' +
  'through another DataSource, another connection or outside() can happen more than once; if it writes nothing, ' +
  'it needs no transaction.';

const UNFINISHED =
  'has answered, but its handler has left a transaction within its own unfinished, so what it wrote there was rolled ' +
  'back. Await dataSource.transaction(), and call commitTransaction() of a query runner before the handler returns.';

/** Warns once of each route whose effects are probably not what its handler expects. */
export class RouteWarnings {
  private readonly logger = new SafeLogger('Idempotency');
  private readonly named = new Map<string, Set<string>>();

  /** It probably writes elsewhere. */
  wroteNothing(name: string): void {
    this.warn(name, NOTHING_WRITTEN);
  }

  leftUnfinished(name: string): void {
    this.warn(name, UNFINISHED);
  }

  private warn(name: string, what: string): void {
    const named = this.named.get(what) ?? new Set();
    if (named.has(name) || named.size >= MOST_NAMES) return;
    this.named.set(what, named.add(name));
    this.logger.warn(`${name} ${what}`);
  }
}
