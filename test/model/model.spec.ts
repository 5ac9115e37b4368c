import {
  CONTROLS,
  controlOf,
  LIMIT,
  MUTANTS,
  PROOFS,
  type Configuration,
  type Mutant,
} from './configuration';
import { search } from './search';

/** Each kind of fault meets two requests, once; `npm run test:model` goes further. */
function small(proof: Configuration): Configuration {
  const once = Object.entries<number>({ ...proof.faults }).map(
    ([fault, times]) => [fault, Math.min(1, times)] as const,
  );
  return { ...proof, requests: 2, claims: 2, faults: { ...proof.faults, ...Object.fromEntries(once) } };
}

describe('the model of the protocol', () => {
  it.each(PROOFS.map(small))('keeps every promise in every state it can reach: $name', (proof) => {
    const { complete, states, counterexamples } = search(proof);
    expect(counterexamples).toEqual([]);
    expect(complete).toBe(true);
    expect(states).toBeGreaterThan(1_000);
  });

  it('visits the same states each time', () => {
    const [first, second] = [1, 2].map(() => search(small(PROOFS[0]!)));
    expect({ ...second, seconds: 0 }).toEqual({ ...first, seconds: 0 });
  });

  describe('finds what breaks where', () => {
    const mutants = (Object.entries(MUTANTS) as [Mutant, string][]).filter(
      ([mutant]) => !CONTROLS[mutant].late,
    );
    it.each(mutants)('%s: %s', (mutant) => {
      const { property } = CONTROLS[mutant];
      const { counterexamples } = search(controlOf(mutant), { until: [property] });
      expect(counterexamples.map((each) => each.property)).toContain(property);
    });

    it('the assumption about Redis is given up: what the README does not promise', () => {
      const { counterexamples } = search(LIMIT.configuration, { until: [LIMIT.property] });
      expect(counterexamples.map((each) => each.property)).toContain(LIMIT.property);
    });
  });
});
