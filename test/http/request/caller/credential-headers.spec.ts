import { lastsForRetries } from '../../../../lib/http/request/caller/authorization';
import { sessionCookies } from '../../../../lib/http/request/caller/cookies';
import { kindOf } from '../../../../lib/http/request/caller/credential-headers';
import { headerPattern } from '../../../../lib/options/header-pattern';
import { found, RULES } from '../../../support/header-lines';

describe('headers', () => {
  it.each([
    ...[
      'authorization',
      'proxy-authorization',
      'x-serverless-authorization',
      'x-api-key',
      'api-key',
      'apikey',
    ],
    ...['x-apikey', 'api_key', 'token', 'private-token', 'x-auth-token', 'x-access-token', 'x-csp-session'],
    ...['x-shopify-access-token', 'x-gitlab-token', 'x-vault-token', 'x-amz-security-token', 'x-session-id'],
    ...[
      'ocp-apim-subscription-key',
      'x-functions-key',
      'x-rapidapi-key',
      'x-client-secret',
      'x-api-password',
    ],
    ...[
      'x-forwarded-user',
      'x-forwarded-email',
      'x-auth-request-user',
      'x-auth-request-email',
      'remote-user',
    ],
    ...['x-remote-user', 'x-webauth-user', 'x-user-id', 'x-user', 'x-tenant-id', 'x-tenant', 'x-account-id'],
    ...['x-caller-identity', 'x-amzn-oidc-identity', 'x-amzn-oidc-accesstoken', 'cf-access-jwt-assertion'],
    ...['cf-access-authenticated-user-email', 'cf-access-client-id', 'x-goog-authenticated-user-email'],
    ...['x-ms-client-principal-id', 'x-consumer-id', 'x-credential-identifier', 'x-forwarded-client-cert'],
    ...['client-cert', 'x-ssl-client-s-dn', 'tailscale-user-login', 'x-authentik-uid', 'x-jwt', 'x-userinfo'],
    ...[
      'oidc_claim_sub',
      'oidc_claim_email',
      'x-jwt-claim-sub',
      'x-user-name',
      'x-uid',
      'x-email',
      'x-login',
    ],
    ...[
      'x-member-id',
      'x-merchant-id',
      'x-shopify-shop-domain',
      'x-company-id',
      'x-workspace',
      'x-device-id',
    ],
    ...['x-customer-number', 'x-forwarded-preferred-username', 'x-on-behalf-of', 'x-user-uuid', 'x-actor'],
  ])('that identify callers count: %s', (name) => {
    expect(kindOf(name)).toBe('credential');
  });

  it.each([
    ...['idempotency-key', 'x-idempotency-key', 'sec-websocket-key', 'x-csrf-token', 'x-xsrf-token', 'dpop'],
    ...['x-vercel-oidc-token', 'x-vercel-sc-headers-key', 'x-px-authorization-token'],
    ...[
      'csrf-token',
      'signature',
      'signature-input',
      'x-hub-signature-256',
      'stripe-signature',
      'x-signature-key',
    ],
    ...[
      'x-request-id',
      'x-correlation-id',
      'traceparent',
      'x-request-token',
      'x-recaptcha-token',
      'x-otp-token',
    ],
    ...['x-auth-timestamp', 'x-auth-nonce', 'user-agent', 'accept', 'content-type', 'host', 'date', 'origin'],
    ...[
      'x-forwarded-for',
      'x-forwarded-proto',
      'x-real-ip',
      'if-match',
      'referer',
      'cache-control',
      'x-b3-traceid',
    ],
    ...[
      'webhook-id',
      'webhook-timestamp',
      'webhook-signature',
      'x-ssl-session-id',
      'ssl_session_id',
      'x-client-version',
      'oidc_claim_iat',
      'x-github-delivery',
      'x-amzn-trace-id',
      'via',
    ],
  ])('that say nothing of the caller, or something else each time, do not count: %s', (name) => {
    expect(kindOf(name)).toBe('other');
  });

  it.each(['x-amzn-oidc-data', 'x-goog-iap-jwt-assertion'])(
    'that a proxy signs anew count only as a sign that someone is there: %s',
    (name) => {
      expect(found([[name, 'a.b.c']])).toEqual({ lasting: [], perRequest: true });
      expect(
        found([
          [name, 'a.b.c'],
          ['X-User-Id', '7'],
        ]).lasting,
      ).toEqual([['x-user-id', '7']]);
    },
  );

  it('that carry the key do not count', () => {
    const rules = { ...RULES, headers: ['X-Api-Key'] };
    expect(found([['x-api-key', 'k']], rules).lasting).toEqual([]);
    const extended = { ...RULES, credentialHeaders: headerPattern(['x-request-*']) };
    expect(
      found(
        [
          ['X-Request-Ticket', 'k'],
          ['X-Request-Who', '7'],
        ],
        extended,
      ).lasting,
    ).toEqual([['x-request-who', '7']]);
  });

  it('that the option names count by name or by pattern, in any case', () => {
    const rules = { ...RULES, credentialHeaders: headerPattern(['X-Acme-*', 'Who', 'X-Csrf-Token', 'a.b']) };
    const names = ['x-acme-', 'X-ACME-Id', 'who', 'x-csrf-token', 'a.b'];
    for (const name of names) expect(found([[name, '1']], rules).lasting).toHaveLength(1);
    for (const name of ['acme-id', 'whom', 'axb']) expect(found([[name, '1']], rules).lasting).toEqual([]);
  });

  it('that are empty are none', () => {
    expect(
      found([
        ['Authorization', ''],
        ['X-Api-Key', ''],
        ['Cookie', ''],
      ]),
    ).toEqual({
      lasting: [],
      perRequest: false,
    });
  });
});

describe('what is longer than any caller sends', () => {
  const LONG = 15_000; // what Node takes as headers

  it.each(['hmac', 'hmac-', 'user-', 'user', '-', 'client-cert-', 'csrf', 'oauth_a', '_hj', 'aws4-', ' '])(
    'is judged at a cost that is linear in it: %j',
    (unit) => {
      const long = unit.repeat(LONG / unit.length);
      const started = process.cpuUsage();
      for (let i = 0; i < 100; i += 1) {
        kindOf(`${long}!${i}`);
        sessionCookies(`${long}${i}=1`);
        for (const value of [long, `${long} a`, `oauth ${long}`, `a ${long}`]) lastsForRetries(value);
      }
      const { user } = process.cpuUsage(started);
      expect(user / 1_000).toBeLessThan(3_000); // ms; 6,000 and more for a cost in the square of it
    },
  );
});
