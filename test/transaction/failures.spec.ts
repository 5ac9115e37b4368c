import { ConflictException } from '@nestjs/common';
import { conflict, endRefused, explained } from '../../lib/transaction/failures';

const cyclic = new Error('cyclic');
Object.assign(cyclic, { driverError: cyclic });

describe('what a handler has thrown in a transaction', () => {
  it('is explained where another transaction or the module stood in the way, also as TypeORM wraps it', () => {
    const deadlock = { driverError: { code: '40P01' } };
    expect(explained(deadlock)).toEqual(conflict(deadlock));
    expect(explained({ driverError: endRefused() })).toMatchObject({ code: 'transaction_broken' });
  });

  it('is explained as well where the application, or another library, has wrapped it', () => {
    const failed = new Error('order failed', { cause: { driverError: { code: '40001' } } });
    Object.assign(failed, { code: 'ORDER_FAILED' });
    expect(explained(failed)).toEqual(conflict(failed));
    const wrapped = new Error('query failed', { cause: endRefused() });
    expect(explained(wrapped)).toMatchObject({ code: 'transaction_broken', message: endRefused().message });
  });

  it.each<[name: string, thrown: unknown]>([
    ['nothing', undefined],
    ['a text', 'text'],
    ['another error', Object.freeze(new Error('frozen'))],
    ['an error that wraps itself', cyclic],
    ['an answer of its own', new ConflictException('sold out', { cause: { code: '40001' } })],
    ['a refusal of the module', conflict({ code: '40001' })],
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
