import { command } from '../support/command';

describe('the client of the command for Postgres', () => {
  it.each(['list', 'migrate', 'doctor'])(
    'takes a certificate that is not there for a wrong URL: %s',
    async (verb) => {
      const DATABASE_URL = 'postgres://user:password@127.0.0.1:1/database?sslrootcert=/no/such/file';
      const refused = await command([verb, '--no-redis'], { DATABASE_URL });
      expect(refused).toMatchObject({ code: 2, stdout: '' });
      expect(refused.stderr).toContain('DATABASE_URL cannot be used: Error: ENOENT');
      expect(refused.stderr).not.toContain('password');
    },
  );
});
