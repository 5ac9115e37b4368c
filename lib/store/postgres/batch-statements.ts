import type { Durability } from '../../core/policy';
import type { RecordRow } from './row';
import * as statements from './schema/statements';
import { byteaOf } from './schema/values';

/** The fence of the claim that was made, or else the record that stands in its way. */
export type ClaimRow = { readonly claimed: number } | (RecordRow & { readonly claimed: null });

/** What stands, also if it has expired; `alone` if a single statement has to tell. */
export type ReadRow = RecordRow | undefined | 'alone';

export interface Named {
  /** SHA-256 in hexadecimal, as are fingerprints. */
  readonly id: string;
  readonly token: string;
}

export interface ClaimItem extends Named {
  readonly fingerprint: string;
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
  /** JSON in ASCII. */
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

/** One row of {@link statements.claimMany}. */
interface ClaimOfMany {
  readonly id: string;
  readonly claimed: number | null;
  /** A {@link RecordRow} in JSON, unless the key was claimed. */
  readonly record: string | null;
}

/** The texts of one table's statements, made once: a text is found again by all of its characters. */
export class BatchTexts {
  readonly claimOne: Readonly<Record<Durability, string>>;
  readonly claimMany: Readonly<Record<Durability, string>>;
  readonly readOne: string;
  readonly readMany: string;
  readonly completeOne: string;
  readonly completeMany: string;
  readonly releaseOne: string;
  readonly releaseMany: string;

  constructor(table: string) {
    const { claimOrRead, claimMany } = statements;
    this.claimOne = { durable: claimOrRead(table, 'durable'), fast: claimOrRead(table, 'fast') };
    this.claimMany = { durable: claimMany(table, 'durable'), fast: claimMany(table, 'fast') };
    this.readOne = statements.read(table);
    this.readMany = statements.readMany(table);
    this.completeOne = statements.complete(table, { waits: false });
    this.completeMany = statements.completeMany(table);
    this.releaseOne = statements.release(table, { waits: false });
    this.releaseMany = statements.releaseMany(table);
  }
}

/** The claim or what stands in its way; undefined if a single statement has to tell. */
export function claimStatement(
  texts: BatchTexts,
  retention: number,
  durability: Durability,
  items: readonly ClaimItem[],
): BatchStatement<ClaimRow | undefined> {
  const [first] = items;
  if (first && items.length === 1) {
    const { id, token, fingerprint, lease, scope, key } = first;
    return {
      text: texts.claimOne[durability],
      values: [byteaOf(id), token, byteaOf(fingerprint), lease, retention, scope, key],
      resultsOf: ([row]: ClaimRow[]) => [row],
    };
  }
  return {
    text: texts.claimMany[durability],
    values: [
      byteaArray(items, ({ id }) => id),
      arrayOf(items, ({ token }) => token),
      byteaArray(items, ({ fingerprint }) => fingerprint),
      arrayOf(items, ({ lease }) => lease),
      textArray(items, ({ scope }) => scope),
      textArray(items, ({ key }) => key),
      retention,
    ],
    resultsOf: (rows: ClaimOfMany[]) => {
      const byId = new Map<string, ClaimOfMany>();
      for (const row of rows) byId.set(row.id, row);
      return items.map(({ id }) => claimRowOf(byId.get(id)));
    },
  };
}

function claimRowOf(row: ClaimOfMany | undefined): ClaimRow | undefined {
  if (!row) return undefined;
  const { claimed, record } = row;
  return claimed === null ? { claimed, ...(JSON.parse(record ?? '') as RecordRow) } : { claimed };
}

export function readStatement(
  texts: BatchTexts,
  items: readonly Pick<Named, 'id'>[],
): BatchStatement<ReadRow> {
  const [first] = items;
  if (first && items.length === 1)
    return { text: texts.readOne, values: [byteaOf(first.id)], resultsOf: ([row]: RecordRow[]) => [row] };
  return {
    text: texts.readMany,
    values: [byteaArray(items, ({ id }) => id)],
    resultsOf: (rows: (RecordRow & { id: string })[]) => {
      const byId = new Map(rows.map((row) => [row.id, row]));
      return items.map(({ id }) => byId.get(id) ?? 'alone');
    },
  };
}

/** Whether each was recorded; false also if its row was locked by another transaction. */
export function completeStatement(
  texts: BatchTexts,
  retention: number,
  items: readonly CompleteItem[],
): BatchStatement<boolean> {
  const [first] = items;
  if (first && items.length === 1) {
    return { text: texts.completeOne, values: completeValues(first, retention), resultsOf: isAny };
  }
  // One value for all bodies: pg would send an array of them in hexadecimal.
  const bodies = items.map(({ body }) => body ?? Buffer.alloc(0));
  let end = 1;
  const starts = bodies.map(({ length }) => (end += length) - length);
  return {
    text: texts.completeMany,
    values: [
      ...claimsOf(items),
      arrayOf(items, ({ status }) => status),
      arrayOf(items, ({ tombstone }) => tombstone),
      arrayOf(items, ({ headers }) => headers && jsonElement(headers)),
      `{${starts.join()}}`,
      arrayOf(items, ({ body }) => body?.length ?? null),
      Buffer.concat(bodies),
      retention,
    ],
    resultsOf: (rows: { id: string }[]) => isIn(rows, items),
  };
}

/** Whether each was released; false also if its row was locked by another transaction. */
export function releaseStatement(texts: BatchTexts, items: readonly ReleaseItem[]): BatchStatement<boolean> {
  const [first] = items;
  if (first && items.length === 1) {
    const { id, token, fence } = first;
    return { text: texts.releaseOne, values: [byteaOf(id), token, fence], resultsOf: isAny };
  }
  return {
    text: texts.releaseMany,
    values: claimsOf(items),
    resultsOf: (rows: { id: string }[]) => isIn(rows, items),
  };
}

/** What completes one claim, as its statement has it. */
export function completeValues(
  { id, token, fence, status, tombstone, headers, body }: CompleteItem,
  retention: number,
): unknown[] {
  return [byteaOf(id), token, fence, retention, status, tombstone, headers, body];
}

export function sizeOfOutcome({ headers, body }: CompleteItem): number {
  return (headers?.length ?? 0) + (body?.length ?? 0);
}

function claimsOf(items: readonly ReleaseItem[]): unknown[] {
  return [
    byteaArray(items, ({ id }) => id),
    arrayOf(items, ({ token }) => token),
    arrayOf(items, ({ fence }) => fence),
  ];
}

/**
 * As Postgres spells it. pg would look at each element for what has to be escaped, twice. Joined, as V8 makes an object
 * of each `+=`.
 * @param elementOf null for NULL; a text that needs quotes has them
 */
function arrayOf<Item>(items: readonly Item[], elementOf: (item: Item) => string | number | null): string {
  return `{${items.map((item) => elementOf(item) ?? 'NULL').join()}}`;
}

/** {@link arrayOf} bytes that are given in hexadecimal. */
function byteaArray<Item>(items: readonly Item[], hexOf: (item: Item) => string): string {
  return `{\\\\x${items.map(hexOf).join(',\\\\x')}}`;
}

/** What has to be escaped within quotes. */
const SPECIAL = /["\\]/g;

/** {@link arrayOf} any text. */
function textArray<Item>(items: readonly Item[], textOf: (item: Item) => string): string {
  return `{"${items.map((item) => textOf(item).replace(SPECIAL, '\\$&')).join('","')}"}`;
}

/**
 * An element of {@link textArray} for JSON in ASCII, in half the time and a quarter of the bytes: it is full of quotes and has no
 * control characters, so JSON escapes the same of it.
 */
function jsonElement(json: string): string {
  return JSON.stringify(json);
}

function isAny(rows: unknown[]): boolean[] {
  return [rows.length > 0];
}

function isIn(rows: readonly { id: string }[], items: readonly Named[]): boolean[] {
  const ids = new Set(rows.map(({ id }) => id));
  return items.map((item) => ids.has(item.id));
}
