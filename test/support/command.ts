import { exitCodeOf } from '../../lib/cli/exit';
import { program } from '../../lib/cli/program';
import { terminal } from '../../lib/cli/terminal';

export interface CommandResult {
  readonly code: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the command within this process, where nothing has to be loaded before. It cannot be asked: pass `--yes`. */
export async function command(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<CommandResult> {
  const out: string[] = [];
  const err: string[] = [];
  const spies = [
    jest.spyOn(terminal, 'print').mockImplementation((text) => void out.push(text)),
    jest.spyOn(terminal, 'printJson').mockImplementation((value) => void out.push(JSON.stringify(value))),
    jest.spyOn(terminal, 'note').mockImplementation((text) => void err.push(text)),
  ];
  const before = { ...process.env };
  Object.assign(process.env, env);
  let code: number | undefined;
  try {
    await program('0.0.0', (ended) => (code = ended)).parseAsync([...args], { from: 'user' });
  } catch (error) {
    code = exitCodeOf(error);
    err.push(String(error));
  } finally {
    process.env = before;
    for (const spy of spies) spy.mockRestore();
  }
  return { code, stdout: out.join('\n'), stderr: err.join('\n') };
}
