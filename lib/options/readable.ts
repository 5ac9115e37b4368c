import { inspect } from 'node:util';
import { z } from 'zod';

/**
 * Why the options of a value cannot be read; empty if they can. A schema takes a promise or a `Map` for an object without
 * options, so all that it holds would be lost.
 */
export function unreadable(schema: z.core.$ZodType, value: unknown, path = ''): string[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [];
  const [object] = objectsIn(schema);
  if (!object) return [];
  const what = path === '' ? 'must be an object of options, not' : `option "${path}" must be an object, not`;
  const problems: string[] = [];
  const read = (name: string): unknown => {
    try {
      return (value as Record<string, unknown>)[name];
    } catch (error) {
      const text = error instanceof Error ? String(error) : inspect(error, { depth: 0 });
      problems.push(`option "${nested(path, name)}" cannot be read: its getter failed with ${text}`);
      return undefined;
    }
  };
  if (typeof read('then') === 'function') return [`${what} a promise: await it, or have a factory return it`];
  const kind = Object.prototype.toString.call(value).slice('[object '.length, -1);
  if (kind !== 'Object' && kind !== 'Module') return [`${what} an instance of ${kind}`];
  for (const [name, inner] of Object.entries<z.core.$ZodType>(object.shape))
    problems.push(...unreadable(inner, read(name), nested(path, name)));
  return problems;
}

/** The objects of options that a schema takes. */
export function objectsIn(schema: z.core.$ZodType): z.ZodObject[] {
  if (schema instanceof z.ZodOptional) return objectsIn(schema.unwrap());
  if (schema instanceof z.ZodPipe) return [schema.in, schema.out].flatMap(objectsIn);
  if (schema instanceof z.ZodUnion) return schema.options.flatMap(objectsIn);
  return schema instanceof z.ZodObject ? [schema] : [];
}

function nested(path: string, name: string): string {
  return path === '' ? name : `${path}.${name}`;
}
