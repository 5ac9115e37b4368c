import type { ServerResponse } from 'node:http';
import { isHttp2 } from './response-head';

/** What a response says of itself while it is held. */
export interface Holder {
  readonly begun: boolean;
  readonly over: boolean;
}

/** Where a held response knows by whom it is held, for the getters that all of them share. */
const HOLDER = Symbol('holder');

type Held = ServerResponse & { [HOLDER]: Holder };

/**
 * Properties that are put on a response and taken off again. Off the other way round, and with getters that are the same
 * functions each time, V8 goes on treating all responses as objects of one shape: else each costs 20 µs more.
 */
export class Overrides {
  private previous: (readonly [name: string | symbol, descriptor: PropertyDescriptor | undefined])[] = [];

  constructor(private readonly response: ServerResponse) {}

  /** What is put on now comes off by `restore`. To be called in the order in which it is put on. */
  remember(...names: readonly (string | symbol)[]): void {
    for (const name of names)
      this.previous.push([name, Object.getOwnPropertyDescriptor(this.response, name)]);
  }

  /** Has the response look to its writer as its holder says. */
  hold(holder: Holder): void {
    const response = this.response as Held;
    // Its own before anything is put on, or they would be put on after it.
    if (!isHttp2(response)) {
      const { statusCode, statusMessage } = response;
      Object.assign(response, { statusCode, statusMessage });
    }
    this.remember(HOLDER, 'headersSent', 'writableEnded');
    response[HOLDER] = holder;
    define(response, 'headersSent', isHeadSent);
    // Not `finished`: by that a server that closes tells idle connections, which it cuts, from those in use.
    define(response, 'writableEnded', isEnded);
  }

  restore(): void {
    const previous = this.previous;
    this.previous = [];
    for (const [name, descriptor] of previous.reverse()) {
      if (descriptor) Object.defineProperty(this.response, name, descriptor);
      else Reflect.deleteProperty(this.response, name);
    }
  }
}

function isHeadSent(this: Held): boolean {
  return this[HOLDER].begun;
}

function isEnded(this: Held): boolean {
  return this[HOLDER].over;
}

/** Puts a getter in the place of a property that Node's class has. */
function define(target: Held, name: string, get: (this: Held) => unknown): void {
  Object.defineProperty(target, name, { get, configurable: true, enumerable: true });
}
