import { Logger } from '@nestjs/common';

/** The application may log through its own code. What that throws must not change what becomes of a request. */
export class SafeLogger extends Logger {
  override error(...args: [message: unknown, ...rest: unknown[]]): void {
    safely(() => super.error(...args));
  }

  override warn(...args: [message: unknown, ...rest: unknown[]]): void {
    safely(() => super.warn(...args));
  }
}

function safely(log: () => void): void {
  try {
    log();
  } catch {
    // There is no other place to report it to.
  }
}
