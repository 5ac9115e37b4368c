import type { State } from './state';

/** What must hold in every state, or at every step. The names are those of docs/internals/model.md. */
export const PROPERTIES = {
  'one execution':
    'a handler starts only if every earlier one of the key has given it back, or (retry) lost its lease',
  'Postgres decides':
    'a handler starts only while a row in Postgres carries the token and fence of its claim',
  'no execution after an answer': 'once a client has seen an outcome, no handler of the key starts',
  'one answer': 'every answer is the outcome that the first client has seen',
  'its own request': 'a request never gets the outcome of another fingerprint',
  'fences rise': 'each claim has a higher fence than those before it',
  'attempts are told':
    'a handler that starts where an interrupted one may have left effects has an attempt above 1',
  'no outcome is forgotten':
    'the outcome of the claim that stands is kept in the memory of its process until Postgres has it',
  'no outcome is overlooked':
    'no request waits, or is refused, for want of an outcome that Redis holds, unless Redis was asked for it',
  'not refused by its own claim': 'no request waits for, or is refused by, a row that carries its own token',
  'unprotected alone':
    'a handler runs unprotected only while its process has no claim, no outcome to record and no other request under way for the key',
  'one effect': 'at most one transaction of the key is committed',
  'effect and outcome together':
    'the effects of a transaction are committed if, and only if, the record of its key has its outcome',
  'answers are committed': 'no client sees the outcome of a transaction that is not committed',
  'denials are true':
    'a transaction whose request was told that nothing was executed is not committed afterwards',
  'what is forgotten stays so':
    'a request that comes after an operator was told that a record is deleted never gets its outcome',
  'what is forgotten is not recorded again':
    'the outcome of a record that an operator was told is deleted does not become that of a later claim',
  'no key is stuck': 'without further faults, some path leads to a completed or absent record',
} as const;

export type Property = keyof typeof PROPERTIES;

/** The properties that the step under way breaks. */
let broken: Property[] = [];
const NONE: readonly Property[] = [];

export function expect(holds: boolean, property: Property): void {
  if (!holds && !broken.includes(property)) broken.push(property);
}

export function takeBroken(): readonly Property[] {
  if (broken.length === 0) return NONE;
  const taken = broken;
  broken = [];
  return taken;
}

/** Where a key may rest. */
export function atRest({ row }: State): boolean {
  return !row || row.expired || row.outcome > 0;
}
