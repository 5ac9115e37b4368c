import { createSecretKey, randomBytes } from 'node:crypto';
import { noEncryption, outcomeCipherOf, type OutcomeCipher } from '../../lib/outcome/outcome-cipher';

/** What each store is tested with: outcomes in the clear, and encrypted. */
export const SEALS: readonly (readonly [name: string, cipher: OutcomeCipher])[] = [
  ['in the clear', noEncryption],
  ['encrypted', outcomeCipherOf({ keys: [createSecretKey(randomBytes(32))], acceptPlain: false })],
];
