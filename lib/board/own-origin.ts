import type { IncomingHttpHeaders } from 'node:http';

/** Whether a page of the board has sent this form, by what browsers say and no page can set. */
export function isFromOwnPage(headers: IncomingHttpHeaders): boolean {
  const site = headers['sec-fetch-site'];
  return site === undefined ? isOwnOrigin(headers) : site === 'same-origin';
}

/** Whether a script or an element of another site asks: CORS of the application may let it read the answer. */
export function isForeignRead(headers: IncomingHttpHeaders): boolean {
  const { 'sec-fetch-site': site, 'sec-fetch-mode': mode, origin } = headers;
  if (site === undefined) return origin !== undefined && !isOwnOrigin(headers);
  return site !== 'same-origin' && site !== 'none' && mode !== 'navigate';
}

/** Where browsers say nothing of the site, as over plain HTTP. A proxy may have changed `Host`. */
function isOwnOrigin(headers: IncomingHttpHeaders): boolean {
  const { origin = '', host } = headers;
  if (!URL.canParse(origin)) return false;
  const forwarded = [headers['x-forwarded-host'] ?? []].flat().flatMap((hosts) => hosts.split(','));
  const own = [host, headers[':authority'], ...forwarded].map((each) =>
    String(each ?? '')
      .trim()
      .toLowerCase(),
  );
  return own.includes(new URL(origin).host);
}
