import { conflict, endRefused, explained } from '../../lib/transaction/failures';

const cyclic = new Error('cyclic');
Object.assign(cyclic, { driverError: cyclic });

describe('what a handler has thrown in a transaction', () => {
  it('is explained where another transaction or the module stood in the way, also as TypeORM wraps it', () => {
    const deadlock = { driverError: { code: '40P01' } };
    expect(explained(deadlock)).toEqual(conflict(deadlock));
    expect(explained({ driverError: endRefused() })).toMatchObject({ code: 'transaction_broken' });
  });

  it.each<[name: string, thrown: unknown]>([
    ['nothing', undefined],
    ['a text', 'text'],
    ['another error', Object.freeze(new Error('frozen'))],
    ['an error that wraps itself', cyclic],
    [
      'an error that cannot be read',
      {
        get driverError(): never {
          throw new Error('not readable');
        },
      },
    ],
  ])('is passed on as it is otherwise: %s', (_, thrown) => {
    expect(explained(thrown)).toBe(thrown);
  });
});
