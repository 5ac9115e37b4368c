import type { ServerResponse } from 'node:http';

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
export interface Holder {
  /** What the response says of `headersSent` and `writableEnded`; undefined: what it says without a holder. */
  readonly begun: boolean | undefined;
  readonly over: boolean | undefined;
  answer(method: Method, args: readonly unknown[]): unknown;
}

type Callable = (this: ServerResponse, ...args: readonly unknown[]) => unknown;

/** The innermost hold of each response that is held. */
type Holds = WeakMap<ServerResponse, ResponseHold>;

/**
 * Leads the calls on a response to its holder, until it is let go. A hold can be within another, as that of a refusal
 * is within its handler's.
 *
 * The calls are caught in the class of the response (`http.ServerResponse`), once for the whole process: without a hold
 * its methods do what they did. Nothing is changed on the response itself but what middleware has put there. So whoever
 * gets it, another Express application for example, which gives it other prototypes, gets past no hold; and it costs
 * little: Express makes each response an object of a shape of its own, and V8 takes 1.5 µs and as many KiB for each
 * property or prototype that changes it further, and half a microsecond for each access afterwards.
 */
export class ResponseHold {
  /** The response on which is called, right now, what would be called if it were not held. */
  private static bypassed: ServerResponse | undefined;

  private outer: ResponseHold | undefined;
  private readonly holds: Holds;
  /** What middleware had put on the response. */
  private readonly before: Map<Method, Callable>;

  constructor(
    private readonly response: ServerResponse,
    private readonly holder: Holder,
  ) {
    this.holds = holdsOf(response);
    this.outer = this.holds.get(response);
    this.before = this.outer?.before ?? takenOver(response, this.holds);
    this.holds.set(response, this);
  }

  /** Whether its head has gone past the hold, as it can where somebody calls what lies below `http.ServerResponse`. */
  get escaped(): boolean {
    return !this.outer && this.bypassing(() => this.response.headersSent);
  }

  /** Calls what would be called if the response were not held. */
  call(method: Method, ...args: readonly unknown[]): unknown {
    if (this.outer) return this.outer.holder.answer(method, args);
    const { response } = this;
    const called = this.before.get(method) ?? (Reflect.get(response, method) as Callable);
    return this.bypassing(() => Reflect.apply(called, response, args));
  }

  letGo(): void {
    const { response, outer, holds } = this;
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

  /** Whether a call that has reached the class of the response is for its holder: middleware calls it from below the hold. */
  catches(method: Method): boolean {
    return ResponseHold.bypassed !== this.response && !this.before.has(method);
  }

  answer(method: Method, args: readonly unknown[]): unknown {
    return this.holder.answer(method, args);
  }

  look(what: 'begun' | 'over'): boolean | undefined {
    if (ResponseHold.bypassed === this.response) return undefined;
    return this.holder[what] ?? this.outer?.look(what);
  }

  private bypassing<T>(work: () => T): T {
    const { bypassed } = ResponseHold;
    ResponseHold.bypassed = this.response;
    try {
      return work();
    } finally {
      ResponseHold.bypassed = bypassed;
    }
  }
}

/** Puts the hold before what middleware has put on the response, and says what that was. */
function takenOver(response: ServerResponse, holds: Holds): Map<Method, Callable> {
  const before = new Map<Method, Callable>();
  for (const name of METHODS) {
    if (!Object.hasOwn(response, name)) continue;
    const own = Reflect.get(response, name) as Callable;
    before.set(name, own);
    Reflect.set(response, name, (...args: unknown[]) => {
      const hold = holds.get(response);
      return hold ? hold.answer(name, args) : Reflect.apply(own, response, args);
    });
  }
  return before;
}

/** What a writer has put on the response meanwhile was meant for the one that was held. */
function putBack(response: ServerResponse, before: Map<Method, Callable>): void {
  const prototype = Object.getPrototypeOf(response) as object;
  for (const name of METHODS) {
    // Not deleted: V8 would make a dictionary of the response.
    if (Object.hasOwn(response, name))
      Reflect.set(response, name, before.get(name) ?? Reflect.get(prototype, name));
  }
}

/**
 * Under this name a class of responses has its holds. The same for every copy of this module in the process, such as
 * those of a test runner that loads it for each file, so that its methods are changed once.
 */
const HOLDS = Symbol.for('nestjs-idempotency.holds.1');

interface Class {
  [HOLDS]?: Holds;
}

/** By the prototype of a response. */
const known = new WeakMap<object, Holds>();

function holdsOf(response: ServerResponse): Holds {
  const prototype = Object.getPrototypeOf(response) as object;
  let holds = known.get(prototype);
  if (!holds) {
    const target = classOf(prototype);
    holds = (Object.hasOwn(target, HOLDS) ? target[HOLDS] : undefined) ?? prepared(target);
    known.set(prototype, holds);
  }
  return holds;
}

/** The nearest that has one of the methods, so that none of them is called before it. */
function classOf(prototype: object): Class {
  for (let at: object | null = prototype; at; at = Object.getPrototypeOf(at) as object | null)
    if (METHODS.some((name) => Object.hasOwn(at, name))) return at;
  return prototype;
}

function prepared(target: object): Holds {
  const holds: Holds = new WeakMap();
  for (const name of METHODS) {
    if (!(name in target)) continue;
    const native = Reflect.get(target, name) as Callable;
    define(target, name, {
      value: function (this: ServerResponse, ...args: unknown[]): unknown {
        const hold = holds.get(this);
        return hold?.catches(name) ? hold.answer(name, args) : Reflect.apply(native, this, args);
      },
      writable: true,
    });
  }
  look(target, holds, 'headersSent', 'begun');
  // Not `finished`: by that a server that closes tells idle connections, which it cuts, from those in use.
  look(target, holds, 'writableEnded', 'over');
  define(target, HOLDS, { value: holds });
  return holds;
}

function look(
  target: object,
  holds: Holds,
  name: 'headersSent' | 'writableEnded',
  what: 'begun' | 'over',
): void {
  const own = Object.getOwnPropertyDescriptor(target, name);
  // What the response says without a hold is found from here on.
  const native = (own ? Object.create(null, { [name]: own }) : Object.getPrototypeOf(target)) as object;
  define(target, name, {
    get(this: ServerResponse): unknown {
      return holds.get(this)?.look(what) ?? Reflect.get(native, name, this);
    },
  });
}

function define(target: object, name: string | symbol, descriptor: PropertyDescriptor): void {
  Object.defineProperty(target, name, { configurable: true, ...descriptor });
}
