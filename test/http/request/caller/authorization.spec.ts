import { lastsForRetries } from '../../../../lib/http/request/caller/authorization';
import { found } from '../../../support/header-lines';

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
