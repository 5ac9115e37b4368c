import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

const ROOT = join(__dirname, '../..');

export interface Packed {
  /** Name of the tarball in the folder. */
  readonly filename: string;
  /** What it holds. */
  readonly paths: readonly string[];
}

/** Packs the package, as built, into a folder. */
export function pack(folder: string): Packed {
  const answer = execFileSync('npm', ['pack', '--json', '--pack-destination', folder], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'inherit'],
  }).toString();
  const [packed] = JSON.parse(answer) as { filename: string; files: { path: string }[] }[];
  if (!packed) throw new Error(`npm pack answered ${answer}`);
  return { filename: packed.filename, paths: packed.files.map(({ path }) => path) };
}
