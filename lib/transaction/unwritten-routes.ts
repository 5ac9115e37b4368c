import { SafeLogger } from '../observability/safe-logger';

/** The names of work that is not an HTTP request are the application's, so there could be many. */
const MOST_NAMES = 100;

/** Warns once of each route whose handler has written nothing in its transaction: it probably writes elsewhere. */
export class UnwrittenRoutes {
  private readonly logger = new SafeLogger('Idempotency');
  private readonly named = new Set<string>();

  add(name: string): void {
    if (this.named.has(name) || this.named.size >= MOST_NAMES) return;
    this.named.add(name);
    this.logger.warn(
      `${name} is in the transaction mode, but its handler has written nothing in its transaction. What it writes ` +
        'through another DataSource, another connection or outside() can happen more than once; if it writes nothing, ' +
        'it needs no transaction.',
    );
  }
}
