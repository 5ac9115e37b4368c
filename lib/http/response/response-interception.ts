import { ServerResponse } from 'node:http';
import { guardStream } from './http2-stream';

/** What a writer calls to answer. HTTP/2 lacks `setHeaders`. */
const METHODS = [
  'setHeader',
  'setHeaders',
  'appendHeader',
  'removeHeader',
  'writeHead',
  'flushHeaders',
  'write',
  'end',
  'destroy',
] as const;

export type Method = (typeof METHODS)[number];

/** Gets what a writer calls on the response that it holds. */
export interface ResponseSink {
  /** What the response says of `headersSent` and `writableEnded`; undefined: what it says without a holder. */
  readonly headersSent: boolean | undefined;
  readonly writableEnded: boolean | undefined;
  /** Whether this is not held (any more). */
  passes(method: Method): boolean;
  answer(method: Method, args: readonly unknown[]): unknown;
}

type Callable = (this: ServerResponse, ...args: readonly unknown[]) => unknown;

/**
 * Leads the calls on a response to its holder, until it is let go. A hold can be within another, as that of a refusal
 * is within its handler's.
 *
 * The calls are caught in the classes of the response (`http.ServerResponse`), once for the whole process: without a
 * hold their methods do what they did. Nothing is changed on the response itself but what middleware has put there. So
 * another Express application, for example, which gives it other prototypes, meets the hold as well; and it costs
 * little: Express makes each response an object with its own shape, and V8 takes 1.5 µs and as many KiB for each
 * property or prototype that changes it further, and half a microsecond for each access afterwards.
 */
export class ResponseInterception {
  private outer: ResponseInterception | undefined;
  /** What middleware had put on the response. */
  private readonly before: ReadonlyMap<Method, Callable>;

  constructor(
    private readonly response: ServerResponse,
    private readonly sink: ResponseSink,
  ) {
    this.outer = shared.holds.get(response);
    if (!this.outer) {
      prepare(response);
      guardStream(response, () => holdOf(response));
    }
    this.before = this.outer?.before ?? takenOver(response);
    shared.holds.set(response, this);
  }

  /** Whether its head has gone past the hold, as it can if code calls what lies below `http.ServerResponse`. */
  get escaped(): boolean {
    return !this.outer && bypassing(this.response, headersSent, NO_ARGUMENTS) === true;
  }

  /** Calls what would be called if the response were not held. */
  call(method: Method, ...args: readonly unknown[]): unknown {
    if (this.outer) return this.outer.sink.answer(method, args);
    const { response } = this;
    const called = this.before.get(method) ?? (Reflect.get(response, method) as Callable);
    return bypassing(response, called, args);
  }

  release(): void {
    const { response, outer } = this;
    const { holds } = shared;
    let inner = holds.get(response);
    if (inner !== this) {
      while (inner && inner.outer !== this) inner = inner.outer;
      if (inner) inner.outer = outer;
    } else if (outer) holds.set(response, outer);
    else {
      holds.delete(response);
      putBack(response, this.before);
    }
  }

  /** What a class is called for where this is true goes on from there: middleware that answers later calls it again. */
  passes(method: Method): boolean {
    return !this.outer && this.sink.passes(method);
  }

  answer(method: Method, args: readonly unknown[]): unknown {
    return this.sink.answer(method, args);
  }

  read(what: 'headersSent' | 'writableEnded'): boolean | undefined {
    return this.sink[what] ?? this.outer?.read(what);
  }
}

/** What all copies of this module in the process share, as they share Node's classes. */
interface Shared {
  /** The innermost hold of each response that is held. */
  readonly holds: WeakMap<ServerResponse, ResponseInterception>;
  /** The response on which is called, right now, what would be called if it were not held. */
  bypassed: ServerResponse | undefined;
  /** What stands in a class in its methods' places. */
  readonly catching: WeakMap<object, Map<Method, Callable>>;
}

/** Its last part is the version of {@link Shared} and of a hold's methods. A test runner loads a copy for each file. */
const SHARED = Symbol.for('nestjs-idempotency.holds.2');

const shared = sharedByAll();

function sharedByAll(): Shared {
  const anchor = ServerResponse as { [SHARED]?: Shared };
  if (!anchor[SHARED]) {
    const value: Shared = { holds: new WeakMap(), bypassed: undefined, catching: new WeakMap() };
    Object.defineProperty(anchor, SHARED, { value });
    return value;
  }
  return anchor[SHARED];
}

/** The innermost hold, unless it is bypassed. */
function holdOf(response: ServerResponse): ResponseInterception | undefined {
  return shared.bypassed === response ? undefined : shared.holds.get(response);
}

function bypassing(response: ServerResponse, call: Callable, args: readonly unknown[]): unknown {
  const before = shared.bypassed;
  shared.bypassed = response;
  try {
    return Reflect.apply(call, response, args);
  } finally {
    shared.bypassed = before;
  }
}

const NO_ARGUMENTS: readonly unknown[] = [];

function headersSent(this: ServerResponse): boolean {
  return this.headersSent;
}

/** Puts the hold before what middleware has put on the response, and says what that was. */
function takenOver(response: ServerResponse): ReadonlyMap<Method, Callable> {
  let before: Map<Method, Callable> | undefined;
  for (const name of METHODS) {
    if (!Object.hasOwn(response, name)) continue;
    before ??= new Map<Method, Callable>();
    const own = Reflect.get(response, name) as Callable;
    before.set(name, own);
    const value = (...args: unknown[]): unknown => {
      const hold = shared.holds.get(response);
      return hold ? hold.answer(name, args) : Reflect.apply(own, response, args);
    };
    putOn(response, name, value);
  }
  return before ?? UNTOUCHED;
}

/** Of most responses: middleware has put nothing on them. */
const UNTOUCHED: ReadonlyMap<Method, Callable> = new Map();

/** What a writer has put on the response meanwhile was meant for the one that was held. */
function putBack(response: ServerResponse, before: ReadonlyMap<Method, Callable>): void {
  const prototype = Object.getPrototypeOf(response) as object;
  for (const name of METHODS) {
    // Not deleted: V8 would make a dictionary of the response.
    if (!Object.hasOwn(response, name)) continue;
    putOn(response, name, before.get(name) ?? (Reflect.get(prototype, name) as Callable));
  }
}

/** Also where it is there read-only. */
function putOn(response: ServerResponse, name: Method, value: Callable): void {
  if (!Reflect.set(response, name, value)) Object.defineProperty(response, name, { value });
}

/** By the prototype of a response: the classes that it has, with the methods of each that have to be caught. */
const classes = new WeakMap<object, readonly (readonly [target: object, name: Method])[]>();

/** Looks each time: who patches a class, as tests and instrumentation do, may undo it together with what came after. */
function prepare(response: ServerResponse): void {
  const prototype = Object.getPrototypeOf(response) as object;
  let found = classes.get(prototype);
  if (!found) classes.set(prototype, (found = toCatch(prototype)));
  for (const [target, name] of found)
    if (shared.catching.get(target)?.get(name) !== Reflect.get(target, name)) intercept(target, name);
}

/** Of the class that is nearest to Node's own parent of all messages, everything; of those before it, what they override. */
function toCatch(prototype: object): readonly (readonly [object, Method])[] {
  const chain: object[] = [];
  for (let at: object | null = prototype; at; at = Object.getPrototypeOf(at) as object | null) chain.push(at);
  const last = Math.max(
    0,
    chain.findLastIndex((target) => Object.hasOwn(target, 'writeHead')),
  );
  return chain
    .slice(0, last + 1)
    .flatMap((target, index) =>
      METHODS.filter((name) => (index === last ? name in target : Object.hasOwn(target, name))).map(
        (name) => [target, name] as const,
      ),
    );
}

function intercept(target: object, name: Method): void {
  const native = Reflect.get(target, name) as Callable;
  const value = function (this: ServerResponse, ...args: unknown[]): unknown {
    const hold = holdOf(this);
    return hold && !hold.passes(name) ? hold.answer(name, args) : Reflect.apply(native, this, args);
  };
  Object.defineProperty(target, name, { value, writable: true, configurable: true });
  let methods = shared.catching.get(target);
  if (!methods) {
    shared.catching.set(target, (methods = new Map<Method, Callable>()));
    look(target, 'headersSent');
    // Not `finished`: by that a server that closes tells idle connections, which it cuts, from those in use.
    look(target, 'writableEnded');
  }
  methods.set(name, value);
}

function look(target: object, name: 'headersSent' | 'writableEnded'): void {
  const own = Object.getOwnPropertyDescriptor(target, name);
  // What the response says without a hold is found from here on.
  const native = (own ? Object.create(null, { [name]: own }) : Object.getPrototypeOf(target)) as object;
  Object.defineProperty(target, name, {
    get(this: ServerResponse): unknown {
      const hold = holdOf(this);
      return hold?.read(name) ?? Reflect.get(native, name, this);
    },
    configurable: true,
  });
}
