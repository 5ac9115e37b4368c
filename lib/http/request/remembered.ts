/** Names come from clients, so no more than this are remembered, and none that is long. */
const MOST_NAMES = 1_000;
const LONGEST_NAME = 64;

/** Judges each name once. A header's or cookie's name is the same in most requests. */
export function remembered<T>(judge: (name: string) => T): (name: string) => T {
  const known = new Map<string, T>();
  return (name) => {
    let judgement = known.get(name);
    if (judgement === undefined) {
      judgement = judge(name);
      if (name.length <= LONGEST_NAME && known.size < MOST_NAMES) known.set(name, judgement);
    }
    return judgement;
  };
}
