import { cancelStatements } from './postgres-client';
import { terminal } from './terminal';

/** SIGHUP comes where the operator's connection is lost. */
const STOPS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Milliseconds that a Postgres which does not answer has. */
const CANCEL_WITHIN = 1_000;

let isHeld = false;

/** From now on a signal ends what Postgres does for the command, and then the command. */
export function endBySignals(): void {
  for (const name of STOPS) process.on(name, endNow);
}

/**
 * Work that a signal does not cut: it ends where it can be reported. The second signal, of any kind, ends the command.
 * @param ending what the operator is told that the first signal does
 */
export async function untilStopped<T>(ending: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const stop = new AbortController();
  const leave = (): void => {
    isHeld = false;
    for (const name of STOPS) process.off(name, stopped);
  };
  const stopped = (name: NodeJS.Signals): void => {
    if (stop.signal.aborted) {
      leave();
      process.kill(process.pid, name);
      return;
    }
    stop.abort();
    terminal.progress('');
    terminal.note(`${name}: ${ending}. A second signal ends the command at once.`);
  };
  isHeld = true;
  for (const name of STOPS) process.on(name, stopped);
  try {
    return await work(stop.signal);
  } finally {
    leave();
  }
}

/** The next signal waits for nothing. */
function endNow(name: NodeJS.Signals): void {
  if (isHeld) return;
  for (const each of STOPS) process.off(each, endNow);
  const end = (): void => void process.kill(process.pid, name);
  setTimeout(end, CANCEL_WITHIN); // keeps the process, so that it ends by the signal
  void cancelStatements().then(end);
}
