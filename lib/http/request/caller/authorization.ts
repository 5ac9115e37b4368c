/**
 * Schemes whose value is made anew for each request (from its content, a nonce or a clock) or negotiated for each
 * connection. A retry could not be recognised by them. A value without a blank is a token: what it begins with, or
 * holds by chance, is not a scheme.
 */
const PER_REQUEST = new RegExp(
  '^(?:' +
    [
      'digest',
      'hawk',
      'aws',
      'aws4-.*',
      '.*hmac.*', // HMAC-SHA256, TC3-HMAC-SHA256, GOOG4-HMAC-SHA256, EG1-HMAC-SHA256, ...
      'goog1',
      'goog4-.*',
      'sharedkey(?:lite)?',
      'oss',
      'obs',
      'apiauth(?:-.*)?',
      'signature',
      'mac',
      'negotiate',
      'kerberos',
      'ntlm',
      'scram-.*',
      'hoba',
      'mutual',
      'sapisidhash',
    ].join('|') +
    ')$',
  'i',
);

/** Some put the scheme before a colon or another sign instead of a blank. */
const PER_REQUEST_WITHOUT_BLANK = /^hmac[:,;=-]/i;

/** OAuth 1.0 signs each request with parameters such as `oauth_nonce`. Others use the same scheme for a plain token. */
const OAUTH_1 = /^oauth .*\boauth_\w+ *=/i;

/** Whether a retry has the same value. Any scheme counts that is not known to change, and a value without a scheme. */
export function lastsForRetries(authorization: string): boolean {
  const blank = authorization.indexOf(' ');
  if (blank < 0) return !PER_REQUEST_WITHOUT_BLANK.test(authorization);
  return !PER_REQUEST.test(authorization.slice(0, blank)) && !OAUTH_1.test(authorization);
}
