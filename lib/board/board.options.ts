import type { CanActivate, ExecutionContext, FactoryProvider, ModuleMetadata, Type } from '@nestjs/common';
import { z } from 'zod';
import type { RecordDetails } from '../admin/idempotency-admin';
import { boolean, callback } from '../options/schemas';
import { asyncShape } from '../options/specification/asynchronous';
import { validate } from '../options/validate';

/** `full`: look and change. `read`: look. `false`: neither. */
export type BoardAccess = 'full' | 'read' | false;

export interface BoardOptions {
  /**
   * Says what the sender of a request may do. It is asked for each request, after the application's guards. An
   * HttpException of Nest that it throws is the answer to the request. Any other error or answer is `false`: 403.
   */
  readonly access: (context: ExecutionContext) => BoardAccess | Promise<BoardAccess>;
  /**
   * The hosts that the board answers to, as the header `Host` names them: `'ops.example.com'` for any port, or
   * `'ops.example.com:8443'`. All others get 403.
   * @default any; but over loopback, by plain HTTP, only names of this machine, such as `localhost` and `127.0.0.1`
   */
  readonly hosts?: readonly string[];
  /**
   * Who makes a change, for the audit. A change is refused if it fails or gives no text.
   * @default the `id`, `sub` or `userId` of `request.user`; `unknown (board)` without one
   */
  readonly actor?: (context: ExecutionContext) => string | Promise<string>;
  /**
   * Shows bodies of responses: their first 8,192 characters.
   * @default false
   */
  readonly showBodies?: boolean;
  /**
   * Gives the record as it is shown, without what its reader must not see. If it fails, neither headers nor body
   * are shown. Lists do not ask it: they have no headers and no bodies. Headers with credentials are hidden in any case.
   * @default the record as it is
   */
  readonly redact?: (record: RecordDetails) => RecordDetails | Promise<RecordDetails>;
}

/** Where the board is, which Nest has to know before it makes any provider. */
export interface BoardPlace extends Pick<ModuleMetadata, 'imports'> {
  /**
   * Below the global prefix, if there is one. All pages have this path.
   * @default '/idempotency'
   */
  readonly path?: string;
  /**
   * Run after global guards, and before `access`. A class gets what `imports` export.
   * @default []
   */
  readonly guards?: readonly (Type<CanActivate> | CanActivate)[];
}

export interface IdempotencyBoardModuleOptions extends BoardPlace, BoardOptions {}

export interface IdempotencyBoardModuleAsyncOptions extends BoardPlace {
  readonly inject?: FactoryProvider['inject'];
  readonly useFactory: (...dependencies: never[]) => BoardOptions | Promise<BoardOptions>;
}

const ACCESS =
  "a function that says of each request what its sender may do: 'full', 'read' or false. The board shows what clients " +
  'sent, and deletes records, so it has no default';
const PATH = "a path without parameters, such as '/idempotency'";

const HOST = /^(?:[\w.-]+|\[[\da-f:.]+\])(?::\d{1,5})?$/i;
const HOSTS = "a list of hosts without a scheme, such as ['ops.example.com', 'localhost:3000']";

const options = {
  access: z.custom<BoardOptions['access']>((value) => typeof value === 'function', { error: ACCESS }),
  hosts: z
    .array(z.string({ error: HOSTS }).regex(HOST, { error: HOSTS }), { error: HOSTS })
    .min(1, { error: HOSTS })
    .optional(),
  actor: callback<NonNullable<BoardOptions['actor']>>().optional(),
  showBodies: boolean.optional(),
  redact: callback<NonNullable<BoardOptions['redact']>>().optional(),
};

const place = {
  path: z
    .string({ error: PATH })
    .regex(/^\/?[\w.~-]+(?:\/[\w.~-]+)*\/?$/, { error: PATH })
    .optional(),
  guards: z.array(z.unknown(), { error: 'a list of guards' }).optional(),
  imports: asyncShape.imports,
};

const asynchronous = {
  inject: asyncShape.inject,
  useFactory: callback(),
};

const WHERE = 'IdempotencyBoardModule';

/** @throws InvalidOptionsError */
export function checkModuleOptions(given: unknown): void {
  validate(z.strictObject({ ...place, ...options }), given, `${WHERE}.forRoot`);
}

/** @throws InvalidOptionsError */
export function checkAsyncModuleOptions(given: unknown): void {
  validate(z.strictObject({ ...place, ...asynchronous }), given, `${WHERE}.forRootAsync`);
}

/** What a factory has given. @throws InvalidOptionsError */
export function checkOptions(given: unknown): void {
  validate(z.strictObject(options), given, `${WHERE}.forRootAsync`);
}
