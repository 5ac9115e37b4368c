import type { z } from 'zod';

/** Where an option may be given: `service` is `IdempotencyService.execute`. */
export type Level = 'module' | 'class' | 'method' | 'service';

/** What a number counts, where its meaning does not say so. */
export type Unit = 'bytes' | 'characters' | 'rows';

/**
 * All that is said of one option, in one place: what is accepted, what holds without it, and the line in the table
 * of docs/reference/options.md, which `npm run docs:options` writes. `IdempotencyModuleOptions` has its longer text for editors.
 */
export interface Option<S extends z.ZodType = z.ZodType, D = unknown> {
  readonly levels: readonly Level[];
  /** Its errors complete the sentence "option … is …, but must be". */
  readonly schema: S;
  /** As an application would write it. Undefined: without the option there is nothing, or what `otherwise` says. */
  readonly default: D;
  /** Markdown for what holds without the option, where that is not a value. */
  readonly otherwise?: string;
  readonly unit?: Unit;
  /** Markdown for what it does. Links start from docs/reference. */
  readonly text: string;
  /** The options within it. */
  readonly options?: Options;
}

export type Options = Readonly<Record<string, Option>>;

/** What an application may give: every option may be left out, or be undefined. */
export type Shape<G extends Options> = { [K in keyof G]: z.ZodOptional<G[K]['schema']> };

/** What was given of each option, validated. */
export type Given<G extends Options> = { readonly [K in keyof G]?: z.output<G[K]['schema']> | undefined };

/** Each option with its default filled in. */
export type Settings<G extends Options> = {
  readonly [K in keyof G]: z.output<G[K]['schema']> | (G[K]['default'] extends undefined ? undefined : never);
};

type Text = Pick<Option, 'otherwise' | 'unit' | 'text' | 'options'>;

/** Makes the options that may be given at these levels. */
export function optionsAt(...levels: readonly Level[]) {
  return <S extends z.ZodType, const D extends z.input<S> | undefined = undefined>(
    option: Text & { schema: S; default?: D },
  ) => ({ default: undefined, ...option, levels }) as Option<S, D>;
}

export function shapeOf<G extends Options>(options: G): Shape<G> {
  const shape = Object.entries(options).map(([name, { schema }]) => [name, schema.optional()]);
  return Object.fromEntries(shape) as Shape<G>;
}

/** Fills in what was not given. A default is read as if the application had given it. */
export function defaultsOf<G extends Options>(options: G): (given: Given<G> | undefined) => Settings<G> {
  const defaults = Object.entries(options).map(
    ([name, { schema, default: value }]) =>
      [name, value === undefined ? undefined : schema.parse(value)] as const,
  );
  return (given = {}) => {
    const settings = defaults.map(([name, value]) => [name, given[name] ?? value]);
    return Object.fromEntries(settings) as Settings<G>;
  };
}

/** Of all that was given, what is of these options. */
export function givenOf<G extends Options>(options: G, given: Given<G>): Given<G> {
  return Object.fromEntries(Object.keys(options).map((name) => [name, given[name]])) as Given<G>;
}
