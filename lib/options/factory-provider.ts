import type { FactoryProvider } from '@nestjs/common';
import { inspect, types } from 'node:util';
import { IdempotencySetupError } from '../core/errors';

interface Factory<T> {
  readonly useFactory: (...dependencies: never[]) => T | Promise<T>;
  readonly inject?: FactoryProvider['inject'];
}

/**
 * Has Nest call a factory that an application gives, and says which one where it fails.
 * @param where the method that it was given to
 * @param check what it makes. @throws for what is not valid
 */
export function factoryProvider<T>(
  where: string,
  provide: symbol,
  { useFactory, inject = [] }: Factory<T>,
  check: (options: T) => void = () => undefined,
): FactoryProvider {
  const lacking = useFactory.length - inject.length;
  return {
    provide,
    inject,
    useFactory: async (...dependencies: never[]) => {
      const options = await made(`useFactory of ${where}()`, () => useFactory(...dependencies), lacking);
      check(options);
      return options;
    },
  };
}

/**
 * Calls what an application gives to make options.
 * @param what names it in errors
 * @param lacking how many of its arguments it does not get
 * @throws what it throws, or IdempotencySetupError where that says too little
 */
export async function made<T>(what: string, make: () => T | Promise<T>, lacking = 0): Promise<T> {
  try {
    return await make();
  } catch (error) {
    const isError = types.isNativeError(error) || error instanceof Error;
    const text = isError ? String(error) : inspect(error, { depth: 0 });
    if (lacking > 0)
      throw new IdempotencySetupError(
        `${what} takes more arguments than \`inject\` has providers: name one for each. It failed with ${text}`,
        { cause: error },
      );
    if (isError) throw error;
    throw new IdempotencySetupError(
      `${what} failed with ${text}, which is not an Error. Throw one that says why.`,
      {
        cause: error,
      },
    );
  }
}
