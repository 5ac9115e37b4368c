import { createInterface } from 'node:readline/promises';
import { UsageError } from './exit';

/** Where a command writes: answers to stdout, all else to stderr. */
export interface Terminal {
  print(text: string): void;
  note(text: string): void;
  /** On one line that is written anew; only to a terminal. */
  progress(text: string): void;
  /** @throws UsageError unless the answer is yes, or `yes` is set */
  confirm(question: string, yes: boolean | undefined): Promise<void>;
}

export const terminal: Terminal = {
  print: (text) => void process.stdout.write(`${text}\n`),
  note: (text) => void process.stderr.write(`${text}\n`),
  progress: (text) => {
    if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text}`);
  },
  confirm: async (question, yes) => {
    if (yes) return;
    if (!process.stdin.isTTY)
      throw new UsageError(`${question}\nNothing was changed: there is no terminal to ask at. Pass --yes.`);
    const prompt = createInterface({ input: process.stdin, output: process.stderr });
    try {
      const answer = await prompt.question(`${question} [y/N] `);
      if (!/^y(es)?$/i.test(answer.trim())) throw new UsageError('Nothing was changed.');
    } finally {
      prompt.close();
    }
  },
};
