import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { chownSync, mkdtempSync, realpathSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Whom a process runs as. */
export interface User {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Reads process ids from our end of a pipe. The pipe closes when we die, in whatever way: then it ends the process
 * named last, by the signal given and by force if that takes longer than 2 s, and deletes the folder.
 */
const WATCHDOG = `
pid=
while read -r line; do pid=$line; done
if [ -n "$pid" ]; then
  all="$pid $(cat "/proc/$pid/task/$pid/children" 2>/dev/null || pgrep -P "$pid")"
  kill -CONT $all
  kill "-$2" "$pid"
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    kill -0 "$pid" || break
    sleep 0.1
  done
  kill -0 "$pid" && kill -KILL $all
fi
for _ in 1 2 3 4 5; do
  rm -rf "$1" && break
  sleep 0.2
done
`;

/**
 * A server's temporary folder, and the watchdog that ends the server and deletes the folder should this process die
 * first. It is a process of its own since no handler of ours runs after SIGKILL, and since a library has no business
 * with the signal handlers of the application.
 */
export class Home {
  private constructor(
    readonly path: string,
    private readonly watchdog: ChildProcess,
  ) {}

  /**
   * @param lastSignal what makes the server end at once, such as `QUIT`
   * @param user the folder's owner, where that is not us
   */
  static create(name: string, lastSignal: string, user?: User): Home {
    const path = mkdtempSync(join(temporary(user), `nestjs-idempotency-${name}-`));
    const watchdog = spawn('/bin/sh', ['-c', WATCHDOG, 'sh', path, lastSignal], {
      cwd: '/',
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true, // what a terminal or a supervisor sends to our group must not reach it
    });
    watchdog.on('error', () => undefined); // without it everything works but this
    watchdog.stdin.on('error', () => undefined);
    watchdog.unref();
    if (watchdog.stdin instanceof Socket) watchdog.stdin.unref(); // a pipe always is one
    if (user) chownSync(path, user.uid, user.gid);
    return new Home(path, watchdog);
  }

  /** Has the watchdog end this process too, for as long as it runs. */
  watch(child: ChildProcess): void {
    this.tell(child.pid);
    child.once('exit', () => this.tell(undefined)); // its id may soon be another's
  }

  /** Deletes the folder; nothing may run in it any more. */
  async delete(): Promise<void> {
    await rm(this.path, { recursive: true, force: true, maxRetries: 10 });
    this.watchdog.kill('SIGKILL');
    this.watchdog.stdin?.destroy();
  }

  private tell(pid: number | undefined): void {
    if (this.watchdog.stdin?.writable) this.watchdog.stdin.write(`${pid ?? ''}\n`);
  }
}

/** Servers name the folder they run in without symbolic links, which macOS has in the path of its temporary folder. */
function temporary(user: User | undefined): string {
  const usable = [tmpdir(), '/tmp', '/var/tmp'].find((folder) => !user || isOpenTo(user, folder));
  return realpathSync(usable ?? tmpdir());
}

/** TMPDIR may lie in a folder that is closed to other users. */
function isOpenTo(user: User, folder: string): boolean {
  return spawnSync('/bin/sh', ['-c', 'cd "$1"', 'sh', folder], { ...user, cwd: '/' }).status === 0;
}
