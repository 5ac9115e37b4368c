import { z } from 'zod';
import { encryptionKeys } from '../encryption-keys';
import { boolean } from '../schemas';
import { optionsAt } from './option';

const option = optionsAt('module');

export const encryptionOptions = {
  keys: option({
    schema: encryptionKeys,
    text: 'keys of 32 bytes: the first encrypts, each decrypts',
  }),
  acceptPlain: option({
    schema: boolean,
    default: true,
    text: 'whether responses stored in the clear are replayed',
  }),
};

/** Without keys there is nothing to encrypt with. */
export const encryptionSchema = z.strictObject(
  { keys: encryptionOptions.keys.schema, acceptPlain: encryptionOptions.acceptPlain.schema.optional() },
  { error: '{ keys, acceptPlain }' },
);
