import * as scripts from '../../../lib/store/redis/scripts';

/** Of the script that writes, for each key: its numbers, of which the rank is the second, and the rest of its value. */
const COPY_ARGUMENTS = 2;

/** Turns the bytes that a client sends into the names of what it asks for, as they become complete. */
export interface StatementReader {
  read(chunk: Buffer): string[];
  /** Where in the chunk that was read last a statement begins; 0 where it began in one before. */
  startOf?(statement: string): number;
}

/**
 * What each statement of the Postgres store is called here: the first pattern that its text matches. A test holds that
 * each has the right one.
 */
const POSTGRES_STATEMENTS: readonly (readonly [name: string, pattern: RegExp])[] = [
  ['cleanup', /pg_try_advisory_xact_lock[^;]*DELETE/],
  ['forget', /AS existed/],
  ['are-forgotten', /SELECT claim\.token/],
  ['orphans', /nestjs-idempotency orphan/],
  ['mark-cleanup', /nestjs-idempotency cleanup/],
  ['claim', /INSERT INTO[^;]*'in_progress'/],
  ['insert-completed', /INSERT INTO[^;]*'completed'/],
  ['complete', /UPDATE[^;]*state = 'completed'/],
  ['confirm', /pg_logical_emit_message/],
  ['renew', /FOR NO KEY UPDATE/],
  ['abandon', /attempt > 1/],
  ['take-over', /attempt = [a-z.]*attempt \+ 1/],
  ['reclaim', /attempt = 1, state = 'in_progress'/],
  ['delete-expired', /DELETE FROM \S+ (AS \w+ )?WHERE id = \$1::bytea AND expires_at <= now\(\)/],
  ['release', /AS released|FOR UPDATE OF record SKIP LOCKED/],
  ['read', /SELECT[^;]*encode\(body, 'base64'\)/],
  // Of transactions.
  ['begin', /^BEGIN/],
  ['lock', /pg_try_advisory_xact_lock\(/],
  ['is-free', /pg_try_advisory_xact_lock_shared/],
  ['look', /current_setting\('role'\)/],
  ['commit', /^COMMIT/],
  ['rollback', /^ROLLBACK$/],
  // Of the applications.
  ['effect', /INSERT INTO "effect"/],
  ['mark', /INSERT INTO mark /],
  ['find-mark', /SELECT response FROM mark /],
];

export function postgresStatement(text: string): string | undefined {
  return POSTGRES_STATEMENTS.find(([, pattern]) => pattern.test(text))?.[0];
}

/** Reads the frontend's side of Postgres' protocol 3, where a statement is sent by `Parse` or named by `Bind`. */
export class PostgresReader implements StatementReader {
  private rest: Buffer = Buffer.alloc(0);
  private started = false;
  private readonly prepared = new Map<string, string>();
  private readonly starts = new Map<string, number>();

  startOf(statement: string): number {
    return this.starts.get(statement) ?? 0;
  }

  read(chunk: Buffer): string[] {
    let at = -this.rest.length;
    this.rest = Buffer.concat([this.rest, chunk]);
    this.starts.clear();
    const names: string[] = [];
    for (;;) {
      const head = this.started ? 1 : 0; // the startup message alone has no type
      if (this.rest.length < head + 4) return names;
      const length = head + this.rest.readInt32BE(head);
      if (this.rest.length < length) return names;
      const message = this.rest.subarray(0, length);
      this.rest = this.rest.subarray(length);
      for (const name of this.started ? this.statementOf(message) : []) {
        names.push(name);
        this.starts.set(name, Math.max(0, at));
      }
      this.started = true;
      at += length;
    }
  }

  private statementOf(message: Buffer): string[] {
    const strings = message.subarray(5);
    const [first = '', second = ''] = strings.toString('latin1').split('\0', 2);
    switch (String.fromCharCode(message[0] ?? 0)) {
      case 'P':
        this.prepared.set(first, second);
        return [];
      case 'B':
        return named(postgresStatement(this.prepared.get(second) ?? ''));
      case 'Q':
        return named(postgresStatement(first));
      default:
        return [];
    }
  }
}

const SCRIPTS = Object.entries(scripts).flatMap(([name, script]) =>
  'sha' in script ? [{ name: name.toLowerCase(), ...script }] : [],
);
/** By rank. */
const PUT_STEPS = ['hint', 'pending', 'outcome', 'removed'];

/** Reads the commands of Redis' protocol. The script that writes is called by what it writes. */
export class RedisReader implements StatementReader {
  private rest: Buffer = Buffer.alloc(0);

  read(chunk: Buffer): string[] {
    this.rest = Buffer.concat([this.rest, chunk]);
    const names: string[] = [];
    for (;;) {
      const command = this.next();
      if (!command) return names;
      names.push(...redisStatements(command));
    }
  }

  private next(): string[] | undefined {
    const parts: string[] = [];
    let at = 0;
    const line = (): string | undefined => {
      const end = this.rest.indexOf('\r\n', at);
      if (end < 0) return undefined;
      const text = this.rest.toString('latin1', at, end);
      at = end + 2;
      return text;
    };
    const count = line();
    if (count === undefined) return undefined;
    for (let left = Number(count.slice(1)); left > 0; left--) {
      const size = line();
      if (size === undefined) return undefined;
      const length = Number(size.slice(1));
      if (this.rest.length < at + length + 2) return undefined;
      parts.push(this.rest.toString('latin1', at, at + length));
      at += length + 2;
    }
    this.rest = this.rest.subarray(at);
    return [(parts[0] ?? '').toLowerCase(), ...parts.slice(1)];
  }
}

/** A script's arguments are `sha, how many keys, keys, …`. Of the script that writes, some for each key. */
function redisStatements([verb = '', what = '', keys = '', ...args]: readonly string[]): string[] {
  const script = SCRIPTS.find(({ sha, source }) => what === (verb === 'eval' ? source : sha));
  if (script?.name !== 'put') return [script?.name ?? verb];
  return Array.from({ length: Number(keys) }, (_, index) => {
    const numbers = args[Number(keys) + index * COPY_ARGUMENTS] ?? '';
    return PUT_STEPS[Number(numbers.split(' ')[1])] ?? script.name;
  });
}

function named(name: string | undefined): string[] {
  return name === undefined ? [] : [name];
}
