/** Keys of one generation: two of them take about 1 MB. */
const GENERATION = 4_096;

/** The keys that were added last, a few thousand of them, by their hashes. */
export class RecentKeys {
  private newest = new Set<string>();
  private older = new Set<string>();

  /** One that is asked for stays. */
  has(hash: string): boolean {
    if (this.newest.has(hash)) return true;
    if (!this.older.has(hash)) return false;
    this.add(hash);
    return true;
  }

  add(hash: string): void {
    if (this.newest.size >= GENERATION) {
      this.older = this.newest;
      this.newest = new Set();
    }
    this.newest.add(hash);
  }
}
