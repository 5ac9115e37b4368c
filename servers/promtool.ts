import type { Program } from './debian-packages';
import { findProgram } from './program';

/**
 * The `promtool` that PROMTOOL names, that of PATH, or one that is fetched.
 * @throws Error that says in one line what to install
 */
export function findPromtool(): Promise<Program> {
  return findProgram({
    variable: 'PROMTOOL',
    command: 'promtool',
    debian: { name: 'promtool', packages: ['prometheus'], path: 'usr/bin/promtool' },
    unavailable: (reason, cause) =>
      new Error(`${reason}: install promtool (apt-get install prometheus), or set PROMTOOL.`, { cause }),
  });
}
