import { createSecretKey, randomBytes } from 'node:crypto';
import { plainSeal, sealOf, type Seal } from '../../lib/core/seal';

/** What each store is tested with: outcomes in the clear, and encrypted. */
export const SEALS: readonly (readonly [name: string, seal: Seal])[] = [
  ['in the clear', plainSeal],
  ['encrypted', sealOf({ keys: [createSecretKey(randomBytes(32))], acceptPlain: false })],
];
