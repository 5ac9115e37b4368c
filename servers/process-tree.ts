import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** The direct children of a process; none if it has ended. */
export function childrenOf(pid: number): number[] {
  return children(pid).split(/\s+/).filter(Boolean).map(Number);
}

function children(pid: number): string {
  try {
    // Linux, where a slim system has no pgrep.
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
  } catch {
    try {
      return execFileSync('pgrep', ['-P', String(pid)], { encoding: 'utf8' });
    } catch {
      return ''; // pgrep's way to say that there are none
    }
  }
}

/** Whether a process still runs. One that has ended but was not collected by its parent does not. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  try {
    return !/^[ZX]/.test(afterName(readFileSync(`/proc/${pid}/stat`, 'utf8')));
  } catch {
    return process.platform !== 'linux';
  }
}

/** The name comes in parentheses and may contain anything. */
function afterName(stat: string): string {
  return stat.slice(stat.lastIndexOf(')') + 2);
}

/** Sends a signal; a process that has ended meanwhile is none to complain about. */
export function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
