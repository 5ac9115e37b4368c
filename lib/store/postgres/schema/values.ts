/** As Postgres spells bytes. */
export type Bytea = `\\x${string}`;

/** @throws TypeError unless it is a SHA-256 in hexadecimal */
export function byteaOf(hash: string): Bytea {
  if (!/^[0-9a-f]{64}$/.test(hash)) throw new TypeError(`Not a SHA-256 in lower-case hexadecimal: ${hash}`);
  return `\\x${hash}`;
}

/** Postgres' text cannot hold NUL. Scope and key are stored for operators only, so nothing is lost. */
export function printable(text: string): string {
  return text.includes('\0') ? text.replaceAll('\0', '\ufffd') : text;
}
