import { remembered } from '../../../lib/http/request/remembered';

describe('a judgement of names that is remembered', () => {
  const judged: string[] = [];
  const judge = (name: string): boolean => {
    judged.push(name);
    return name.startsWith('x');
  };
  beforeEach(() => judged.splice(0));

  it('is made once for each name, and is the same each time', () => {
    const known = remembered(judge);
    expect(['x-a', 'b', 'x-a', 'b'].map(known)).toEqual([true, false, true, false]);
    expect(judged).toEqual(['x-a', 'b']);
  });

  it('fills no memory with the names that clients invent', () => {
    const known = remembered(judge);
    for (let n = 0; n < 2_000; n++) known(`x-${n}`);
    judged.splice(0);
    for (let n = 0; n < 2_000; n++) known(`x-${n}`);
    expect(judged).toHaveLength(1_000);
    const long = 'x'.repeat(65);
    expect([known(long), known(long)]).toEqual([true, true]);
    expect(judged.filter((name) => name === long)).toHaveLength(2);
  });
});
