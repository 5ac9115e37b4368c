import { HttpStatus, RequestMethod } from '@nestjs/common';
import { HTTP_CODE_METADATA, METHOD_METADATA } from '@nestjs/common/constants';
import { PROBLEM_MEDIA_TYPE } from '../response/problems';
import { REPLAY_HEADER } from '../response/replay';
import type { ProtectedRoute } from './route-explorer';

/*
 * Where `@nestjs/swagger` (11 and 12) keeps what its decorators say. Written directly: its decorators replace what the
 * application has documented of the same status, and without it nothing reads this.
 */
const PARAMETERS = 'swagger/apiParameters';
const RESPONSES = 'swagger/apiResponse';
/** What `@ApiHeader()` says on a class. */
const CLASS_PARAMETERS = 'swagger/apiHeaders';
/** What its compiler plugin finds out, per method; taken up only where no response is documented, so also by us. */
const PLUGIN_METADATA = '_OPENAPI_METADATA_FACTORY';

interface Parameter {
  readonly in?: string;
  readonly name?: string | symbol;
}

interface Response {
  readonly description?: string;
  readonly headers?: Readonly<Record<string, object>>;
  readonly content?: object;
  readonly type?: unknown;
  readonly isArray?: boolean;
  readonly schema?: object;
}

/** Of a method that returns a list, the type is a tuple of its element's. */
interface CompiledMethod {
  readonly type?: unknown;
}

type Responses = Readonly<Record<string, Response>>;

const text = { type: 'string' };

const PROBLEM_SCHEMA = {
  type: 'object',
  required: ['type', 'title', 'status', 'detail'],
  properties: { type: { ...text, format: 'uri' }, title: text, status: { type: 'integer' }, detail: text },
};

const RETRY_AFTER = {
  'Retry-After': { description: 'Seconds after which to retry', schema: { type: 'integer' } },
};

const REPLAYED = {
  [REPLAY_HEADER]: {
    description: 'Present if this is the recorded response of an earlier request with the same key',
    schema: { ...text, enum: ['true'] },
  },
};

const REFUSALS: Responses = {
  400: problem('The idempotency key is missing or not valid'),
  409: problem(
    'A request with this key is still being processed, or its response cannot be given again',
    RETRY_AFTER,
  ),
  422: problem('The idempotency key was used for a different request'),
  503: problem(
    'The idempotency store cannot be reached, or too many requests wait: retry with the same key',
    RETRY_AFTER,
  ),
};

/** Metadata belongs to the process, in which there can be more applications than one. */
const documented = new WeakSet<object>();

/** Adds to the OpenAPI document of a route what `@Idempotent()` adds to the route. What is documented already stays. */
export function document({ type, handler, options }: ProtectedRoute): void {
  if (!options.key) {
    const [name, ...others] = options.headers as [string, ...string[]];
    describeHeader(type, handler, name, others, options.required, options.policy.maxKeyLength);
  }
  if (documented.has(handler)) return;
  documented.add(handler);
  const described = Reflect.getMetadata(RESPONSES, handler) as Responses | undefined;
  // What a method documents of a status replaces what its class does.
  const ofClass = Reflect.getMetadata(RESPONSES, type) as Responses | undefined;
  const responses = described ? withReplayHeaders(described) : successOf(type, handler);
  for (const [status, refusal] of Object.entries(REFUSALS)) {
    const theirs = described?.[status] ?? ofClass?.[status];
    responses[status] = theirs ? merged(theirs, refusal) : refusal;
  }
  Reflect.defineMetadata(RESPONSES, responses, handler);
}

function describeHeader(
  type: object,
  handler: object,
  name: string,
  others: readonly string[],
  required: boolean,
  maxLength: number,
): void {
  const described = (Reflect.getMetadata(PARAMETERS, handler) ?? []) as readonly Parameter[];
  const isOurs = ({ in: place, name: given }: Parameter): boolean =>
    place === 'header' && String(given).toLowerCase() === name.toLowerCase();
  const ofClass = (Reflect.getMetadata(CLASS_PARAMETERS, type) ?? []) as readonly Parameter[];
  if ([...described, ...ofClass].some(isOurs)) return;
  const also = others.length > 0 ? ` Also read from ${others.join(', ')}.` : '';
  const parameter = {
    in: 'header',
    name,
    required,
    description: `Names this request: a retry with the same key gets the first response and has no further effect.${also}`,
    schema: { ...text, minLength: 1, maxLength },
  };
  Reflect.defineMetadata(PARAMETERS, [...described, parameter], handler);
}

function withReplayHeaders(responses: Responses): Record<string, Response> {
  const entries = Object.entries(responses).map(([status, response]) => {
    const neverRecorded = Number(status) >= 500;
    return [status, neverRecorded ? response : withReplayHeader(response)] as const;
  });
  return Object.fromEntries(entries);
}

function withReplayHeader(response: Response): Response {
  return { ...response, headers: { ...REPLAYED, ...response.headers } };
}

/** The application's own description of a status comes first; ours says when else it occurs. */
function merged(described: Response, refusal: Response): Response {
  const { description: theirs = '', type, schema, content } = described;
  const { description: ours = '' } = refusal;
  return {
    ...described,
    ...(type || schema || content ? {} : { content: refusal.content }),
    description: theirs.includes(ours) ? theirs : [theirs, ours].filter(Boolean).join('\n\n'),
    headers: { ...REPLAYED, ...refusal.headers, ...described.headers },
  };
}

/**
 * The response that is documented where no decorator says another: what the compiler plugin knows of it, looked
 * up when the document is made, as that may be loaded as late as that.
 */
function successOf(type: object, handler: { readonly name: string }): Record<string, Response> {
  return Object.defineProperty({}, defaultStatus(handler), {
    get: () => withReplayHeader({ description: '', ...compiledResponse(type, handler.name) }),
    enumerable: true,
    configurable: true,
  });
}

function compiledResponse(type: object, method: string): Response {
  for (let at: object | null = type; at !== null; at = Reflect.getPrototypeOf(at)) {
    const factory = (at as Partial<Record<string, () => Record<string, CompiledMethod>>>)[PLUGIN_METADATA];
    const { type: found } = factory?.()[method] ?? {};
    if (found !== undefined)
      return Array.isArray(found) ? { type: found[0] as unknown, isArray: true } : { type: found };
  }
  return {};
}

function defaultStatus(handler: object): number {
  const status = Reflect.getMetadata(HTTP_CODE_METADATA, handler) as number | undefined;
  const method = Reflect.getMetadata(METHOD_METADATA, handler) as RequestMethod;
  return status ?? (method === RequestMethod.POST ? HttpStatus.CREATED : HttpStatus.OK);
}

function problem(description: string, headers?: Response['headers']): Response {
  return {
    description,
    ...(headers && { headers }),
    content: { [PROBLEM_MEDIA_TYPE]: { schema: PROBLEM_SCHEMA } },
  };
}
