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

type Callable = (...args: readonly unknown[]) => unknown;

/** The innermost hold of each response that is held. */
const holds = new WeakMap<ServerResponse, ResponseHold>();

/**
 * Leads the calls on a response to its holder, until it is let go. A hold can be within another, as that of a refusal
 * is within its handler's.
 *
 * What that takes is in a prototype of the response, made once for all of an application, and stays there: without a
 * hold it does what Node does. Express changes the prototype of each response, and V8 takes 1.5 µs and as many KiB for
 * each property that is put on one after that. But where a handler can get hold of the response, it may pass it to
 * another Express application, which changes its prototype once more: there all of it is put on the response itself.
 * `write` and `end` are everywhere, so that whoever else passes it on sends nothing before it is recorded.
 */
export class ResponseHold {
  private outer: ResponseHold | undefined;
  /** The prototype without a hold. */
  private readonly native: object;
  /** What middleware had put on the response. */
  private readonly before: Map<Method, Callable>;

  constructor(
    private readonly response: ServerResponse,
    private readonly holder: Holder,
    passedOn: boolean,
  ) {
    this.outer = holds.get(response);
    this.native = this.outer?.native ?? nativeOf(response);
    this.before = this.outer?.before ?? new Map<Method, Callable>();
    if (!this.outer) this.putOn(passedOn);
    holds.set(response, this);
  }

  /** Whether its head has gone past the hold, as it can where its prototype alone held it, and was changed. */
  get escaped(): boolean {
    return !this.outer && Reflect.get(this.native, 'headersSent', this.response) === true;
  }

  /** Calls what would be called if the response were not held. */
  call(method: Method, ...args: readonly unknown[]): unknown {
    if (this.outer) return this.outer.holder.answer(method, args);
    return Reflect.apply(this.before.get(method) ?? methodOf(this.native, method), this.response, args);
  }

  letGo(): void {
    const { response, outer } = this;
    let inner = holds.get(response);
    if (inner !== this) {
      while (inner && inner.outer !== this) inner = inner.outer;
      if (inner) inner.outer = outer;
    } else if (outer) holds.set(response, outer);
    else {
      holds.delete(response);
      this.putBack();
    }
  }

  static looks(response: ServerResponse, what: 'begun' | 'over'): boolean | undefined {
    for (let hold = holds.get(response); hold; hold = hold.outer) {
      const look = hold.holder[what];
      if (look !== undefined) return look;
    }
    return undefined;
  }

  static answer(response: ServerResponse, native: object, method: Method, args: readonly unknown[]): unknown {
    const hold = holds.get(response);
    return hold ? hold.holder.answer(method, args) : Reflect.apply(methodOf(native, method), response, args);
  }

  private putOn(passedOn: boolean): void {
    const { response, before } = this;
    for (const name of METHODS) {
      const isOwn = Object.hasOwn(response, name);
      if (isOwn && response[name] !== OWN[name]) before.set(name, methodOf(response, name));
      const puts = isOwn || passedOn || name === 'write' || name === 'end';
      if (puts && name in response) Reflect.set(response, name, OWN[name]);
    }
    if (passedOn) Object.defineProperties(response, OWN_PROPERTIES);
    else Object.setPrototypeOf(response, heldOf(this.native));
  }

  /** What a writer has put on the response meanwhile was meant for the one that was held. */
  private putBack(): void {
    const { response, before } = this;
    for (const name of METHODS)
      if (Object.hasOwn(response, name)) Reflect.set(response, name, before.get(name) ?? OWN[name]);
  }
}

function methodOf(prototype: object, name: Method): Callable {
  return Reflect.get(prototype, name) as Callable;
}

/** The prototypes of held responses by those that they stand before, and the other way round. */
const heldPrototypes = new WeakMap<object, object>();
const nativePrototypes = new WeakMap<object, object>();

function nativeOf(response: ServerResponse): object {
  const prototype = Object.getPrototypeOf(response) as object;
  return nativePrototypes.get(prototype) ?? prototype;
}

function heldOf(native: object): object {
  let held = heldPrototypes.get(native);
  if (!held) {
    const own = Object.entries(methods(() => native)).filter(([name]) => name in native);
    held = Object.assign(
      Object.create(
        native,
        properties(() => native),
      ) as object,
      Object.fromEntries(own),
    );
    heldPrototypes.set(native, held);
    nativePrototypes.set(held, native);
  }
  return held;
}

/** @param native what a response has without a hold */
function methods(native: (response: ServerResponse) => object): Record<Method, Callable> {
  const method = (name: Method) =>
    function (this: ServerResponse, ...args: unknown[]): unknown {
      return ResponseHold.answer(this, native(this), name, args);
    };
  return Object.fromEntries(METHODS.map((name) => [name, method(name)])) as Record<Method, Callable>;
}

function properties(native: (response: ServerResponse) => object): PropertyDescriptorMap {
  const property = (name: string, look: 'begun' | 'over'): PropertyDescriptor => ({
    get(this: ServerResponse): unknown {
      return ResponseHold.looks(this, look) ?? Reflect.get(native(this), name, this);
    },
    configurable: true,
  });
  return {
    headersSent: property('headersSent', 'begun'),
    // Not `finished`: by that a server that closes tells idle connections, which it cuts, from those in use.
    writableEnded: property('writableEnded', 'over'),
  };
}

/** Put on responses themselves. */
const OWN = methods(nativeOf);
const OWN_PROPERTIES = properties(nativeOf);
