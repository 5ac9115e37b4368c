import { sessionCookies } from '../../../../lib/http/request/caller/cookies';

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
