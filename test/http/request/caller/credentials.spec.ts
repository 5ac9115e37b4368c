import fc from 'fast-check';
import { lastsForRetries } from '../../../../lib/http/request/caller/authorization';
import { sessionCookies } from '../../../../lib/http/request/caller/cookies';
import { kindOf } from '../../../../lib/http/request/caller/credential-headers';
import { plainDigest } from '../../../../lib/core/digest';
import {
  credentialsOf,
  digestOf as keyedDigestOf,
  type CredentialRules,
} from '../../../../lib/http/request/caller/credentials';
import { headerPattern } from '../../../../lib/options/header-pattern';
import { runs } from '../../../support/arbitraries';

type Lines = readonly (readonly [name: string, value: string])[];

/** As Node makes it of header lines: most of the repeated ones are joined, of some the first is kept. */
function request(lines: Lines): { headers: Record<string, string>; rawHeaders: string[] } {
  const headers: Record<string, string> = {};
  for (const [sent, value] of lines) {
    const name = sent.toLowerCase();
    const before = headers[name];
    if (before === undefined) headers[name] = value;
    else if (name !== 'authorization') headers[name] = [before, value].join(name === 'cookie' ? '; ' : ', ');
  }
  return { headers, rawHeaders: lines.flat() };
}

const RULES: CredentialRules = {
  headers: ['Idempotency-Key', 'X-Request-Ticket'],
  credentialHeaders: undefined,
};
const found = (lines: Lines, rules = RULES) => credentialsOf(request(lines), rules);
const digestOf = (lines: Lines): string => keyedDigestOf(found(lines).lasting, plainDigest);

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

describe('Authorization', () => {
  it.each([
    ...[
      'Bearer 1|aaa',
      'Bearer a@b',
      'Bearer {x}',
      'Bearer',
      'bare-token',
      'Basic YTpi',
      'Token token="a", x="b"',
    ],
    ...[
      'DPoP abc',
      'GNAP abc',
      'OAuth 00D!AQ',
      'Acme user=7;sig=x',
      'ApiKey a:b',
      'AWSome x',
      'Digested x',
      '{"a":1}',
    ],
    ...[
      'SharedAccessSignature sr=x&sig=y&se=1',
      'Bearer hmac',
      'Zm9vHMacYmFy',
      'HMAC',
      'aws4-token',
      'negotiate',
      'machine 7',
      'PRIVATE-TOKEN x',
      'é',
      'Bearer  two',
    ],
  ])('lasts: %s', (value) => {
    expect(lastsForRetries(value)).toBe(true);
  });

  it.each([
    ...[
      'Digest username="a", nonce="b"',
      'digest x',
      'Hawk id="a", mac="b"',
      'OAuth oauth_nonce="1"',
      'AWS AKIA:sig',
    ],
    ...[
      'OAuth realm="a", oauth_consumer_key="b"',
      'AWS4-HMAC-SHA256 Credential=a',
      'AWS4-ECDSA-P256-SHA256 a',
    ],
    ...[
      'Signature keyId="a"',
      'Negotiate YII=',
      'NTLM TlR=',
      'HMAC a:b',
      'hmac-sha256 a',
      'MAC id="a"',
      'Kerberos a',
    ],
    ...['TC3-HMAC-SHA256 a', 'EG1-HMAC-SHA256 a', 'GOOG4-RSA-SHA256 a', 'SharedKey a:b', 'SharedKeyLite a:b'],
    ...['SCRAM-SHA-256 data=a', 'HMAC:id:sig', 'hmac-sha1=ab'],
  ])('is made anew for each request: %s', (value) => {
    expect(lastsForRetries(value)).toBe(false);
    expect(found([['Authorization', value]])).toEqual({ lasting: [], perRequest: true });
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

describe('cookies', () => {
  it.each([
    ...[
      '_ga',
      '_ga_ABC123',
      '_gid',
      '_gat_UA-1',
      '_fbp',
      '_gcl_au',
      '_hjSessionUser_1',
      '_pk_id.1.2',
      '__utma',
    ],
    ...[
      'AWSALB',
      'AWSALBCORS',
      'AWSALBTG',
      'AWSELB',
      '__cf_bm',
      'cf_clearance',
      'ARRAffinity',
      'BIGipServerpool',
    ],
    ...[
      'OptanonConsent',
      'CookieConsent',
      'cookie_consent',
      'XSRF-TOKEN',
      'csrftoken',
      '_csrf',
      '__Host-csrf',
    ],
    ...['aws-waf-token', 'AWSALBAPP-0', 'AWSALBAuthNonce', 'dtPC', 'dtCookie', 'rxvt', 'ttcsid', 'ttcsid_C1'],
    ...['__stripe_sid', 'heroku-session-affinity', 'ROUTEID', 'NSC_abc', '_sp_ses.1f', 'ai_session', 'FPLC'],
    ...['.AspNetCore.Antiforgery.abc', 'theme', 'NEXT_LOCALE', 'lang', 'visid_incap_1', 'ajs_anonymous_id'],
  ])('that change without the caller’s doing do not count: %s', (name) => {
    expect(sessionCookies(`${name}=1`)).toEqual([]);
  });

  it.each([
    ...[
      'sid',
      'connect.sid',
      'session',
      'PHPSESSID',
      'JSESSIONID',
      '__Host-session',
      'jwt',
      'access_token',
      'auth',
    ],
    ...[
      'AWSELBAuthSessionCookie-0',
      'CF_Authorization',
      '_oauth2_proxy',
      'laravel_session',
      '__hsession',
      'routes',
      'dt',
      '_gab',
      '_garden',
      'ga',
    ],
    ...['next-auth.session-token', 'themes', 'remember_me', 'user', '', 'unknown'],
  ])('that can be a session count: %s', (name) => {
    expect(sessionCookies(`${name}=1`)).toEqual([`${name}=1`]);
  });
});

describe('credentials', () => {
  const name = fc.constantFrom('Authorization', 'X-Api-Key', 'apikey', 'X-User-Id', 'Cookie', 'X-Auth-Token');
  const value = fc.string({
    unit: fc.constantFrom('a', 'b', '=', ';', ',', '"', ' ', '|'),
    minLength: 1,
    maxLength: 5,
  });
  const lines = fc.array(fc.tuple(name, value), { minLength: 1, maxLength: 5 });

  it('are the same in whatever order headers and cookies come, and in whatever case headers are named', () => {
    fc.assert(
      fc.property(lines, fc.nat(), (sent, turn) => {
        const at = turn % sent.length;
        // Not the values of one name: Node keeps the first.
        const turned = [...sent.slice(at), ...sent.slice(0, at)].map(
          ([each, given]) => [each.toUpperCase(), given] as const,
        );
        expect(digestOf(turned)).toBe(digestOf(sent));
      }),
      runs(500),
    );
  });

  it('are others if any of them is another, also one that is repeated', () => {
    fc.assert(
      fc.property(lines, fc.nat(), value, (sent, pick, to) => {
        const at = pick % sent.length;
        const other = sent.map(([each, given], i) => [each, i === at ? to : given] as const);
        expect(digestOf(other) === digestOf(sent)).toBe(meaning(other) === meaning(sent));
      }),
      runs(1_000),
    );
  });

  it('never hide each other: a key that all share does not hide a session', () => {
    const shared = [
      ['X-Api-Key', 'site'],
      ['Authorization', 'Basic c2l0ZQ=='],
    ] as const;
    expect(digestOf([...shared, ['Cookie', 'sid=1']])).not.toBe(digestOf([...shared, ['Cookie', 'sid=2']]));
  });

  it('are what middleware has made of them', () => {
    const sent = request([['Authorization', 'Bearer a']]);
    const changed = { ...sent, headers: { authorization: 'Bearer b', 'x-user-id': '7' } };
    expect(credentialsOf(changed, RULES).lasting).toEqual([
      ['authorization', 'Bearer b'],
      ['x-user-id', '7'],
    ]);
  });

  /** What they say, by a rule that shares nothing with the code under test. */
  function meaning(sent: Lines): string {
    const said = sent.flatMap(([each, given]) => {
      if (each !== 'Cookie') return given === '' ? [] : [`${each.toLowerCase()}:${given}`];
      const cookies = given.split(';').map((part) => part.trim());
      return cookies.filter((part) => part !== '').map((part) => `cookie:${part}`);
    });
    return JSON.stringify(said.sort());
  }
});
