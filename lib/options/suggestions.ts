/** So many letters of a name there are for each that may be wrong, and so many may be wrong at most. */
const LETTERS_PER_TYPO = 3;
const MOST_TYPOS = 3;

/** Those of the known names that a misspelt one is likely to mean: the nearest, if a letter or a few differ. */
export function suggestionsFor(misspelt: string, known: readonly string[]): readonly string[] {
  const name = misspelt.toLowerCase();
  const distances = known.map((each) => distance(name, each.toLowerCase()));
  const least = Math.min(...distances);
  const isTypo = least <= Math.min(MOST_TYPOS, Math.max(1, Math.floor(name.length / LETTERS_PER_TYPO)));
  return isTypo ? known.filter((_, index) => distances[index] === least) : [];
}

/** How many letters have to be inserted, deleted or replaced, or swapped with their neighbour. */
function distance(from: string, to: string): number {
  const cost: number[][] = [];
  const at = (row: number, column: number): number => cost[row]?.[column] ?? Infinity;
  for (let i = 0; i <= from.length; i += 1) {
    cost.push([]);
    for (let j = 0; j <= to.length; j += 1) {
      const same = from[i - 1] === to[j - 1];
      const swapped = from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1];
      cost[i]?.push(
        i === 0 || j === 0
          ? i + j
          : Math.min(
              at(i - 1, j) + 1,
              at(i, j - 1) + 1,
              at(i - 1, j - 1) + (same ? 0 : 1),
              swapped ? at(i - 2, j - 2) + 1 : Infinity,
            ),
      );
    }
  }
  return at(from.length, to.length);
}
