import { inspect } from 'node:util';
import type { LoggerService } from '@nestjs/common';

/** An application's logger that keeps what it is told, on all levels, errors with their causes and stacks. */
export class KeptLog implements LoggerService {
  readonly lines: string[] = [];

  private readonly keep = (...said: unknown[]): void => {
    this.lines.push(
      said.map((each) => (typeof each === 'string' ? each : inspect(each, { depth: 10 }))).join(' '),
    );
  };
  readonly log = this.keep;
  readonly error = this.keep;
  readonly warn = this.keep;
  readonly debug = this.keep;
  readonly verbose = this.keep;
  readonly fatal = this.keep;
}
