import { withoutPassword } from '../../lib/cli/output';

describe('a URL that is printed', () => {
  it.each([
    ['postgres://me:hidden@host:5432/db', 'postgres://me:***@host:5432/db'],
    ['postgres://me:hid@den@host/db', 'postgres://me:***@host/db'],
    ['postgres://me:hid:d/e?n#@host/db', 'postgres://me:***@host/db'],
    ['redis://:hid@1@one:1,redis://:hid@2@two:2', 'redis://:***@one:1,redis://:***@two:2'],
    ['https://hidden@host/prometheus', 'https://***@host/prometheus'],
    ['http://me:hid@den@host/', 'http://me:***@host/'],
    ['postgres://host/db?user=me&password=hid@den&ssl=1', 'postgres://host/db?user=me&password=***&ssl=1'],
    ['connect to redis://:hidden@host failed, ask a@b', 'connect to redis://:***@host failed, ask a@b'],
  ])('has no password: %s', (url, printed) => {
    expect(withoutPassword(url)).toBe(printed);
  });

  it.each(['redis://127.0.0.1:6379/0', 'postgres://me@host/db', 'mail a@b', 'http://host:9090/api'])(
    'is as it is without one: %s',
    (url) => expect(withoutPassword(url)).toBe(url),
  );
});
