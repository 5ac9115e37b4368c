/** What a path holds where nothing is to be done: RFC 3986's `pchar` without percent signs, and slashes. */
const PLAIN = /^[\w.~!$&'()*+,;=:@/-]*$/;

const INVALID_SEQUENCE = /%(?![0-9a-f]{2})/i;
const UNRESERVED = /[\w.~-]/;

/**
 * One spelling for all that RFC 3986 (6.2.2) calls equal: `%7e` is `~`, `%2f` is `%2F`, and what no path may hold as it
 * is (a space, `é`) is percent-encoded. Reserved characters stay as they are: `%2F` is not a slash.
 */
export function normalizedPath(path: string): string {
  if (PLAIN.test(path)) return path;
  // What looks like a sequence beside one that is invalid may not be meant as one.
  const valid = INVALID_SEQUENCE.test(path) ? path : path.replace(/%([0-9a-f]{2})/gi, sequence);
  return valid.replace(/[^\w.~!$&'()*+,;=:@/%-]/gu, (character) =>
    character.isWellFormed() ? encodeURIComponent(character) : character,
  );
}

function sequence(sent: string, hex: string): string {
  const character = String.fromCharCode(parseInt(hex, 16));
  return UNRESERVED.test(character) ? character : sent.toUpperCase();
}
