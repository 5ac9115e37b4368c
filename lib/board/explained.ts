import { visible } from '../core/visible';
import { isIdempotencySetupError, StoreError } from '../core/errors';
import { isInvalidOptionsError } from '../options/validate';

/** What a reader is told of an error; undefined for one that is a bug, so that the log alone says more. */
export function explained(error: unknown): { readonly text: string; readonly status: number } | undefined {
  const status = statusOf(error);
  return status && { text: visible((error as Error).message), status };
}

function statusOf(error: unknown): 400 | 404 | 503 | undefined {
  if (error instanceof StoreError) return 503;
  if (isInvalidOptionsError(error)) return 400;
  if (isIdempotencySetupError(error)) return 404;
  return undefined;
}
