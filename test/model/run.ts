import {
  configuration,
  CONTROLS,
  controlOf,
  DEEP,
  LIMIT,
  PROOFS,
  type Configuration,
  type Mutant,
} from './configuration';
import { search, type Counterexample, type Result } from './search';
import { NO_FAULTS } from './configuration';

/*
 * Searches the protocol's states for one that breaks a promise: docs/internals/model.md.
 *
 *   npm run test:model                   the protocol under each family of faults, then the controls
 *   npm run test:model -- --deep         larger bounds as well
 *   npm run test:model -- --traces       prints the controls' counterexamples too
 *   npm run test:model -- '{"crashes":2,"postgres":1}' '{"requests":4}'    bounds of your own
 */
const args = process.argv.slice(2);
const [faults, more] = args.filter((arg) => !arg.startsWith('--'));
const deep = args.includes('--deep');
const traces = args.includes('--traces');
let failed = false;

const proofs = faults
  ? [configuration('own', JSON.parse(faults) as object, JSON.parse(more ?? '{}') as object)]
  : [...PROOFS, ...(deep ? DEEP : [])];

row('configuration', 'bounds', 'states', 'transitions', 'depth', 'seconds', 'found');
row('---', '---', '---', '---', '---', '---', '---');
const total = { states: 0, transitions: 0, seconds: 0 };
for (const proof of proofs) {
  const result = search(proof);
  print(proof, result, result.counterexamples[0]?.property ?? 'nothing');
  total.states += result.states;
  total.transitions += result.transitions;
  total.seconds += result.seconds;
  for (const counterexample of result.counterexamples) show(counterexample);
  failed ||= result.counterexamples.length > 0;
}
console.log(`\n${total.states} states, ${total.transitions} transitions, ${total.seconds.toFixed(0)} s\n`);

if (!faults) {
  row('control', 'bounds', 'states', 'transitions', 'depth', 'seconds', 'found');
  row('---', '---', '---', '---', '---', '---', '---');
  for (const mutant of Object.keys(CONTROLS) as Mutant[])
    control(controlOf(mutant), CONTROLS[mutant].property);
  control(LIMIT.configuration, LIMIT.property);
}
process.exitCode = failed ? 1 : 0;

function control(c: Configuration, property: Counterexample['property']): void {
  const result = search(c, { until: [property], most: 2_000_000 });
  const found = result.counterexamples.find((each) => each.property === property);
  print(c, result, found ? `${property}, in ${found.trace.length} steps` : 'NOTHING');
  if (found && traces) show(found);
  failed ||= !found;
}

function print(c: Configuration, result: Result, found: string): void {
  const { states, transitions, depth, seconds } = result;
  row(c.name, bounds(c), String(states), String(transitions), String(depth), seconds.toFixed(1), found);
}

function bounds({ processes, requests, claims, fingerprints, faults: budget }: Configuration): string {
  const spent = (Object.keys(NO_FAULTS) as (keyof typeof NO_FAULTS)[]).filter((fault) => budget[fault] > 0);
  return [
    `${processes} processes, ${requests} requests, ${claims} claims${fingerprints > 1 ? ', 2 fingerprints' : ''}`,
    ...spent.map((fault) => `${fault} ${budget[fault]}`),
  ].join('; ');
}

function show({ property, trace }: Counterexample): void {
  console.log(`\n"${property}" does not hold:`);
  trace.forEach((step, i) => {
    console.log(`  ${i + 1}. ${step}`);
  });
  console.log();
}

function row(...cells: readonly string[]): void {
  console.log(`| ${cells.join(' | ')} |`);
}
