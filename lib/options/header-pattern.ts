/** Matches these header names, in lower case; a star stands for any text. */
export function headerPattern(names: readonly string[]): RegExp {
  const sources = names.map((name) =>
    name
      .toLowerCase()
      .split('*')
      .map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'))
      .join('.*'),
  );
  return new RegExp(`^(?:${sources.join('|')})$`);
}
