import { Readable, Writable } from 'node:stream';
import type { PoolClient } from 'pg';
import { endRefused } from './failures';
import type { Level, Turn } from './level';
import { ReadAhead } from './read-ahead';

/** What holds the connection for longer than a statement. */
export interface Occupied {
  /** Another waits for the connection. */
  needed(): void;
  /** The transaction has ended. */
  stop(error: Error): void;
}

/** The connection of a transaction. */
export interface SharedConnection {
  client(): Promise<PoolClient>;
  /**
   * Waits for a turn on the connection, and counts what is done with it as under way.
   * @throws TransactionEndedError if the transaction ends before that
   */
  turn(place: Place, occupied?: Partial<Occupied>): Promise<Turn>;
  /** The same for a savepoint, which holds its turn until it is closed. */
  hold(level: Level): Promise<Turn>;
}

/** Where a statement goes, and what to do once it has succeeded. */
export interface Place {
  readonly level: Level;
  /** Whether it belongs to the opening or closing of that level. */
  readonly isCommand?: boolean;
  readonly succeeded?: (text: unknown) => void;
}

type Callback = (error: unknown, result?: unknown) => void;

/** What pg lets write to the connection: a stream, a cursor, a COPY. */
interface Submittable {
  submit(connection: unknown): void;
  handleReadyForQuery?(...args: unknown[]): unknown;
  handleError?(...args: unknown[]): unknown;
  close?(): unknown;
}

/** What ends a transaction, maybe after comments (not nested ones) and empty statements. ROLLBACK TO a savepoint does not. */
const END =
  /^(?:[\s;]|--.*\n|\/\*(?:(?!\/\*)[^])*?\*\/)*(?:commit|end|abort|prepare\s+transaction|rollback(?!\s+(?:(?:work|transaction)\s+)?to\b))\b/i;

/**
 * Each retry of a handler that commits by hand would leave its effects once more. Of several statements in one text only
 * the first is looked at: what others do is found when the outcome is written.
 */
function assertGoesOn(query: unknown): void {
  const text = typeof query === 'string' ? query : (query as { text?: unknown } | undefined)?.text;
  if (typeof text === 'string' && END.test(text)) throw endRefused();
}

/** The transaction's client for one of those that share it: what it sends takes turns, and it cannot give it away. */
export function joinedClient(
  client: PoolClient,
  connection: SharedConnection,
  place: () => Place,
): PoolClient {
  const send = client.query.bind(client) as (...args: unknown[]) => unknown;

  const statement = async (args: readonly unknown[]): Promise<unknown> => {
    assertGoesOn(args[0]);
    const here = place();
    const turn = await connection.turn(here);
    try {
      const result = await send(...args);
      here.succeeded?.(args[0]);
      return result;
    } finally {
      turn.done();
    }
  };

  const submit = (submittable: Submittable): unknown => {
    const stream =
      submittable instanceof Readable && !(submittable instanceof Writable)
        ? new ReadAhead(submittable)
        : undefined;
    const occupied = stream ?? { stop: () => void submittable.close?.() };
    const given = async (): Promise<Turn> => {
      assertGoesOn(submittable);
      return connection.turn(place(), occupied);
    };
    given().then(
      (turn) => {
        whenReady(submittable, () => turn.done());
        send(submittable);
      },
      (error: unknown) => (stream ? stream.stop(error as Error) : submittable.handleError?.(error, {})),
    );
    return stream ?? submittable;
  };

  const query = (...args: unknown[]): unknown => {
    const [first] = args;
    if (isSubmittable(first)) return submit(first);
    const { callback, rest } = withoutCallback(args);
    const result = statement(rest);
    if (!callback) return result;
    result.then(
      (value) => callback(null, value),
      (error: unknown) => callback(error),
    );
    return undefined;
  };

  return new Proxy(client, {
    get(target, name) {
      if (name === 'query') return query;
      if (name === 'release' || name === 'end') return () => Promise.resolve();
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

function isSubmittable(value: unknown): value is Submittable {
  return (
    typeof value === 'object' && value !== null && 'submit' in value && typeof value.submit === 'function'
  );
}

function withoutCallback(args: readonly unknown[]): { callback?: Callback; rest: readonly unknown[] } {
  const last = args.at(-1);
  if (typeof last === 'function') return { callback: last as Callback, rest: args.slice(0, -1) };
  const [config, ...rest] = args as [{ callback?: Callback } | string];
  if (typeof config === 'string' || !config.callback) return { rest: args };
  const { callback, ...others } = config;
  return { callback, rest: [others, ...rest] };
}

/** pg tells one that is done, or that has failed. */
function whenReady(submittable: Submittable, then: () => void): void {
  for (const name of ['handleReadyForQuery', 'handleError'] as const) {
    const handle = submittable[name]?.bind(submittable);
    submittable[name] = (...args) => {
      try {
        return handle?.(...args);
      } finally {
        then();
      }
    };
  }
}
