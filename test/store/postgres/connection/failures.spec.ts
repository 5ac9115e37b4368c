import { failureOf, setupError, type Failure } from '../../../../lib/store/postgres/connection/failures';

const sent = (code: string, more: object = {}): Error =>
  Object.assign(new Error('refused'), { severity: 'ERROR', code, ...more });

describe('a failed statement', () => {
  it.each<[string, unknown, Failure]>([
    ['a deadlock', sent('40P01'), 'transient'],
    ['a serialization failure', sent('40001'), 'transient'],
    ['the shutdown of the server', sent('57P01'), 'connection'],
    ['a transaction that was idle for too long', sent('25P03'), 'connection'],
    ['a standby', sent('25006'), 'connection'],
    ['a protocol error', sent('08P01'), 'connection'],
    ['a socket that broke', Object.assign(new Error('read'), { code: 'ECONNRESET' }), 'connection'],
    [
      'an outdated plan, whatever the language of its message',
      sent('0A000', { routine: 'RevalidateCachedQuery' }),
      'connection',
    ],
    ['a feature that Postgres has not', sent('0A000'), 'refused'],
    ['a statement that another session has prepared', sent('26000'), 'unprepared'],
    ['a time-out of the role', sent('57014'), 'unavailable'],
    ['a full disk', sent('53100'), 'unavailable'],
    ['an error of the system below', sent('58030'), 'unavailable'],
    ['a missing table', sent('42P01'), 'setup'],
    ['a missing right', sent('42501'), 'setup'],
    ['a check that a row violates', sent('23514'), 'refused'],
    ['a mistake of ours', new TypeError('undefined is no function'), 'refused'],
    ['something that is no error', 'gone', 'connection'],
  ])('for %s means what is to be done about it', (_, error, failure) => {
    expect(failureOf(error)).toBe(failure);
  });

  it('of the set-up says how to fix it: rights for a right, the migration for all else', () => {
    expect(setupError(sent('42501')).message).toMatch(/"refused"\. Grant the rights/);
    expect(setupError(sent('42P01')).message).toMatch(/"refused"\. Run .*015_idempotency_cache\.sql/);
  });
});
