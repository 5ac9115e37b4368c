import { performance } from 'node:perf_hooks';

/** Milliseconds without an occurrence after which the next one is news again. */
const QUIET = 60_000;
/** Kinds come from error codes, so there are few; a store that invents them must not fill the memory. */
const MOST_KINDS = 100;

/** Says which of many occurrences is worth a line in the log: the first of its kind, and the first after a quiet minute. */
export class News {
  private readonly lastSeen = new Map<string, number>();

  isNew(kind: string, now = performance.now()): boolean {
    const last = this.lastSeen.get(kind);
    if (last === undefined && this.lastSeen.size >= MOST_KINDS) return false;
    this.lastSeen.set(kind, now);
    return last === undefined || now - last >= QUIET;
  }
}
