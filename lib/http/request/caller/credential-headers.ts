import { remembered } from '../remembered';

/** Those who have an account, and what groups them. */
const HOLDERS =
  '(?:user|account|tenant|customer|member|employee|merchant|seller|vendor|partner|supplier|subscriber|owner|' +
  'shop|store|company|workspace|team|org|organi[sz]ation)';

/** Headers by which callers, or the proxy that has authenticated them, say who they are. Names in lower case. */
const CREDENTIALS = new RegExp(
  '^(?:' +
    [
      '(?:.*-)?authorization',
      '(?:.*-)?(?:token|key|api-?key|accesstoken|secret|password|passwd|credentials?|auth|jwt|assertion|session)',
      '(?:.*-)?(?:key|token|session|credential)-?id(?:entifier)?',
      '(?:.*-)?(?:identity|principal|subject|sub|upn|uid|userinfo|preferred-username|email|login|actor)',
      '(?:.*-)?(?:on-behalf-of|impersonate|device-id|installation-id)',
      `(?:.*-)?${HOLDERS}(?:-?(?:id|name|sub|uid|uuid|guid|domain|number|code))?`,
      '(?:.*-)?client-id',
      '(?:.*-)?client-?cert(?:ificate)?(?:-.*)?',
      'x-auth-.*',
      'x-authenticated-.*',
      'x-authentik-.*',
      'x-consumer-.*',
      'x-credential-.*',
      'x-forwarded-groups',
      'x-webauth-.*',
      '(?:x-)?remote-(?:name|groups)',
      'x-pomerium-claim-.*',
      'x-ms-client-principal.*',
      'x-goog-authenticated-user-.*',
      'x-amzn-oidc-.*',
      'x-amzn-mtls-clientcert.*',
      'cf-access-.*',
      'tailscale-user-.*',
      'x-ssl-client-.*',
      'ssl-client-.*',
    ].join('|') +
    ')$',
);

/** What looks like a credential by its name, and is made anew for each request, belongs to a browser, or is a key. */
const NOT_CREDENTIALS = new RegExp(
  [
    '^sec-',
    '^x-vercel-', // says where it runs, not who calls
    '^x-px-',
    '^dpop$',
    'signature',
    'csrf',
    'xsrf',
    'nonce',
    'captcha',
    'turnstile',
    '(?:ssl|tls)-session', // of a connection
    'idempoten',
    'dedup',
    '(?:^|-)(?:timestamp|time|date|expires|expiry)(?:-|$)',
    '(?:^|-)(?:otp|totp|mfa|2fa)(?:-|$)',
    '^(?:x-)?(?:request|correlation|trace|span|message|event|delivery|page|continuation|cache|surrogate)-(?:key|token)',
    '^access-control-',
  ].join('|'),
);

/** JWTs that a proxy signs for each request, or every few minutes, beside headers that last. */
const PER_REQUEST = new Set(['x-amzn-oidc-data', 'x-goog-iap-jwt-assertion', 'x-pomerium-jwt-assertion']);

/** What a header says of its caller: who it is, that it is someone, but in a new form each time, or nothing. */
export type HeaderKind = 'credential' | 'per-request' | 'other';

/** @param name in lower case */
export const kindOf = remembered((name: string): HeaderKind => {
  // Some servers name their headers with underscores.
  const spelled = name.replaceAll('_', '-');
  if (PER_REQUEST.has(spelled)) return 'per-request';
  return CREDENTIALS.test(spelled) && !NOT_CREDENTIALS.test(spelled) ? 'credential' : 'other';
});
