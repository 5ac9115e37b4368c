type Count = () => number | Promise<number>;

/** What counts effects: a function, or several by their names. */
export type Effects = Count | Readonly<Record<string, Count>>;

/** How often each effect has happened, by its name. */
export type Counts = ReadonlyMap<string, number>;

/** @throws TypeError for a count that is not a number */
export async function countsOf(effects: Effects | undefined): Promise<Counts> {
  const counters = typeof effects === 'function' ? { effect: effects } : (effects ?? {});
  const counts = new Map<string, number>();
  for (const [name, count] of Object.entries(counters)) {
    const counted: unknown = await count();
    if (typeof counted !== 'number' || Number.isNaN(counted))
      throw new TypeError(
        `expectOnce: the count of \`effects.${name}\` is ${String(counted)}, but must be a number`,
      );
    counts.set(name, counted);
  }
  return counts;
}
