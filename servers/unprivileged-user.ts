import { readFileSync } from 'node:fs';
import type { User } from './home';

/** The user without rights that every Unix has. */
export const NOBODY = 'nobody';

/**
 * Whom a server that refuses to run as root has to run as; undefined where we are not root.
 * @throws Error with a line that says what to do, if there is no such user
 */
export function unprivilegedUser(server: string, otherwise: string): User | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const entry = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .find(([name]) => name === NOBODY);
  if (!entry) {
    throw new Error(
      `${server} cannot run as root, and there is no user "${NOBODY}": run as another user, or ${otherwise}.`,
    );
  }
  // As unsigned numbers: macOS writes -2.
  return { uid: Number(entry[2]) >>> 0, gid: Number(entry[3]) >>> 0 };
}
