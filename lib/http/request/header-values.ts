import type { IncomingMessage } from 'node:http';

const NONE: readonly string[] = [];

/**
 * The lines of a header, as they came on the wire: Node joins them in `headers`, or keeps the first. (`headersDistinct`
 * makes a list for every header.) What middleware has added, changed or removed counts as it is in `headers`.
 * @param name in lower case
 */
export function valuesOf(
  { rawHeaders, headers }: Pick<IncomingMessage, 'rawHeaders' | 'headers'>,
  name: string,
): readonly string[] {
  const now = headers[name];
  if (now === undefined) return NONE;
  let lines: string[] | undefined;
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const sent = rawHeaders[i];
    const line = rawHeaders[i + 1];
    if (line !== undefined && sent?.length === name.length && sent.toLowerCase() === name)
      (lines ??= []).push(line);
  }
  return lines && isOf(lines, now) ? lines : [now].flat();
}

/** Whether Node has made it of these lines. */
function isOf(lines: readonly string[], value: string | readonly string[]): boolean {
  if (lines[0] === value || lines.join(', ') === value) return true;
  return lines.join('; ') === (typeof value === 'string' ? value : value.join('; '));
}
