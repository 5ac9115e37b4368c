import type { Durability } from '../../core/policy';
import type { RecordRow } from './row';
import * as statements from './schema/statements';

/** The fence of the claim that was made, or else the record that stands in its way. */
export type ClaimRow = { readonly claimed: number } | (RecordRow & { readonly claimed: null });

/** As Postgres spells bytes. */
export type Bytea = `\\x${string}`;

export interface Named {
  readonly id: Bytea;
  readonly token: string;
}

export interface ClaimItem extends Named {
  readonly fingerprint: Bytea;
  readonly lease: number;
  readonly scope: string;
  readonly key: string;
}

export interface ReleaseItem extends Named {
  readonly fence: number;
}

export interface CompleteItem extends ReleaseItem {
  readonly status: number;
  readonly tombstone: string | null;
  /** JSON. */
  readonly headers: string | null;
  readonly body: Buffer | null;
}

/** One statement for all items of a batch. */
export interface BatchStatement<Result> {
  readonly text: string;
  readonly values: readonly unknown[];
  /** One result per item, in their order. */
  readonly resultsOf: (rows: never[]) => Result[];
}

/** The claim or what stands in its way; undefined if a single statement has to tell. */
export function claimStatement(
  table: string,
  retention: number,
  durability: Durability,
  items: readonly ClaimItem[],
): BatchStatement<ClaimRow | undefined> {
  const [first] = items;
  if (first && items.length === 1) {
    const { id, token, fingerprint, lease, scope, key } = first;
    return {
      text: statements.claimOrRead(table, durability),
      values: [id, token, fingerprint, lease, retention, scope, key],
      resultsOf: ([row]: ClaimRow[]) => [row],
    };
  }
  return {
    text: statements.claimMany(table, durability),
    values: [
      byteaArray(items.map(({ id }) => id)),
      items.map(({ token }) => token),
      byteaArray(items.map(({ fingerprint }) => fingerprint)),
      array(items.map(({ lease }) => lease)),
      items.map(({ scope }) => scope),
      items.map(({ key }) => key),
      retention,
    ],
    resultsOf: (rows: (ClaimRow & { id: string })[]) => {
      const byId = new Map(rows.map((row) => [`\\x${row.id}`, row]));
      return items.map((item) => byId.get(item.id));
    },
  };
}

/** Whether each was recorded; false also if its row was locked by another transaction. */
export function completeStatement(
  table: string,
  retention: number,
  items: readonly CompleteItem[],
): BatchStatement<boolean> {
  const [first] = items;
  if (first && items.length === 1) {
    const { id, token, fence, status, tombstone, headers, body } = first;
    return {
      text: statements.complete(table, { waits: false }),
      values: [id, token, fence, retention, status, tombstone, headers, body],
      resultsOf: isAny,
    };
  }
  // One value for all bodies: pg would send an array of them in hexadecimal.
  const bodies = items.map(({ body }) => body ?? Buffer.alloc(0));
  let end = 1;
  const starts = bodies.map(({ length }) => (end += length) - length);
  return {
    text: statements.completeMany(table),
    values: [
      ...claimsOf(items),
      array(items.map(({ status }) => status)),
      items.map(({ tombstone }) => tombstone),
      items.map(({ headers }) => headers),
      array(starts),
      array(items.map(({ body }) => body?.length ?? null)),
      Buffer.concat(bodies),
      retention,
    ],
    resultsOf: (rows: { id: string }[]) => isIn(rows, items),
  };
}

/** Whether each was released; false also if its row was locked by another transaction. */
export function releaseStatement(table: string, items: readonly ReleaseItem[]): BatchStatement<boolean> {
  const [first] = items;
  if (first && items.length === 1) {
    const { id, token, fence } = first;
    const text = statements.release(table, { waits: false });
    return { text, values: [id, token, fence], resultsOf: isAny };
  }
  return {
    text: statements.releaseMany(table),
    values: claimsOf(items),
    resultsOf: (rows: { id: string }[]) => isIn(rows, items),
  };
}

export function sizeOfOutcome({ headers, body }: CompleteItem): number {
  return (headers?.length ?? 0) + (body?.length ?? 0);
}

function claimsOf(items: readonly ReleaseItem[]): unknown[] {
  return [
    byteaArray(items.map(({ id }) => id)),
    items.map(({ token }) => token),
    array(items.map(({ fence }) => fence)),
  ];
}

/** As Postgres spells it, without a look at each element for what has to be escaped, which costs pg a microsecond. */
function array(elements: readonly (number | null)[]): string {
  return `{${elements.map((element) => element ?? 'NULL').join(',')}}`;
}

function byteaArray(elements: readonly Bytea[]): string {
  return `{${elements.map((element) => `"\\${element}"`).join(',')}}`;
}

function isAny(rows: unknown[]): boolean[] {
  return [rows.length > 0];
}

function isIn(rows: readonly { id: string }[], items: readonly Named[]): boolean[] {
  const ids = new Set(rows.map(({ id }) => `\\x${id}`));
  return items.map((item) => ids.has(item.id));
}
