/** So much of a time-out a timer may be late without a meaning. */
const TOLERANCE = 0.1;

/**
 * Whether a timer was so late that the process has been too busy to send and read, and the time-out says nothing about
 * the store. What timed out then gets as long again, but once only: a process that is always late has to end, too.
 */
export function isLate(late: number, timeout: number): boolean {
  return late > timeout * TOLERANCE;
}
