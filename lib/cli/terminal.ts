import { once } from 'node:events';
import { createInterface } from 'node:readline/promises';
import { visible, visibleJson, visibleLines } from '../core/visible';
import { UsageError } from './exit';

/**
 * Where a command writes: answers to stdout, all else to stderr. Texts may hold what clients sent, so nothing that a
 * terminal would obey is written but line breaks.
 */
export interface Terminal {
  print(text: string): void;
  printJson(value: unknown): void;
  /** To a terminal as text; as it is to a file or a pipe. */
  printBytes(bytes: Buffer): void;
  note(text: string): void;
  /** On one line that is written anew; only to a terminal. */
  progress(text: string): void;
  /** @throws UsageError unless the answer is yes, or `yes` is set */
  confirm(question: string, yes: boolean | undefined): Promise<void>;
}

export const terminal: Terminal = {
  print: (text) => void process.stdout.write(`${visibleLines(text)}\n`),
  printJson: (value) => void process.stdout.write(`${visibleJson(value, 2)}\n`),
  printBytes: (bytes) =>
    void process.stdout.write(process.stdout.isTTY ? visibleLines(bytes.toString()) : bytes),
  note: (text) => void process.stderr.write(`${visibleLines(text)}\n`),
  progress: (text) => {
    if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${visible(text)}`);
  },
  confirm: async (question, yes) => {
    if (yes) return;
    if (!process.stdin.isTTY)
      throw new UsageError(`${question}\nNothing was changed: there is no terminal to ask at. Pass --yes.`);
    const prompt = createInterface({ input: process.stdin, output: process.stderr });
    try {
      // Ctrl+C and Ctrl+D close it: then question() fails, or never ends, by the version of Node.
      const closed = once(prompt, 'close').then(() => '');
      const answer = await Promise.race([
        prompt.question(`${visible(question)} [y/N] `).catch(() => ''),
        closed,
      ]);
      if (!/^y(es)?$/i.test(answer.trim())) throw new UsageError('Nothing was changed.');
    } finally {
      prompt.close();
    }
  },
};
