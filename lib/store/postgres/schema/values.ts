const SHA_256 = /^[0-9a-f]{64}$/;

/** @throws TypeError unless it is a SHA-256 in hexadecimal */
export function hashOf(text: string): string {
  if (!SHA_256.test(text)) throw new TypeError(`Not a SHA-256 in lower-case hexadecimal: ${text}`);
  return text;
}

/**
 * As Postgres spells bytes.
 * @throws TypeError unless it is a SHA-256 in hexadecimal
 */
export function byteaOf(hash: string): string {
  return `\\x${hashOf(hash)}`;
}

/** Postgres' text cannot hold NUL. Scope and key are stored for operators only, so nothing is lost. */
export function printable(text: string): string {
  return text.includes('\0') ? text.replaceAll('\0', '\ufffd') : text;
}
