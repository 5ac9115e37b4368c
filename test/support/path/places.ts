import { join, relative } from 'node:path';

const ROOT = join(__dirname, '../../..');

/** How often each place made something, most first: the innermost frames of the stacks, Node's own left out. */
export function placesOf(
  stacks: readonly string[],
  depth: number,
): readonly (readonly [place: string, count: number])[] {
  const counts = new Map<string, number>();
  for (const stack of stacks) {
    const place = placeOf(stack, depth);
    counts.set(place, (counts.get(place) ?? 0) + 1);
  }
  return [...counts].sort(([, a], [, b]) => b - a);
}

/** Where a package makes it, the line of `lib` that called the package follows. */
function placeOf(stack: string, depth: number): string {
  const frames = stack.split('\n').slice(1).flatMap(frame);
  const shown = frames.slice(0, depth);
  const ours = frames.find((each) => each.includes('lib/') && !each.includes('node_modules'));
  if (ours && !shown.includes(ours)) shown.push(ours);
  if (shown.length > 0) return shown.join(' ← ');
  return stack.includes('at Promise.then') ? 'a promise that was resolved with another one' : 'Node itself';
}

function frame(line: string): string[] {
  const found = /at (?:async )?(?:(.+?) \()?(?:file:\/\/)?(\/[^)]+):(\d+):\d+\)?$/.exec(line.trim());
  if (!found) return [];
  const [, name = 'anonymous', file = '', number = ''] = found;
  const path = relative(ROOT, file).replace(
    /^.*node_modules\/((?:@[^/]+\/)?[^/]+)\/.*\//,
    'node_modules/$1 … ',
  );
  if (path.startsWith('test/support/path/recorder')) return [];
  return [`${name} (${path}:${number})`];
}
