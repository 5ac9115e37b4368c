import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isIdempotencySetupError } from '../../lib';
import { loadIfInstalled, loadNeeded } from '../../lib/core/optional-package';

describe('an optional package', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'optional-package-'));
    writeFileSync(join(folder, 'incomplete.js'), "require('not-installed-below');");
    writeFileSync(join(folder, 'broken.js'), "throw new Error('broken');");
    writeFileSync(join(folder, 'sound.js'), 'module.exports = 1;');
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const load = (name: string) => (): unknown => jest.requireActual(name);
  const file = (name: string) => load(join(folder, name));

  it('is loaded where it is installed', () => {
    expect(loadIfInstalled(file('sound.js'))).toBe(1);
    expect(loadNeeded(file('sound.js'), 'Install it.')).toBe(1);
  });

  it('is undefined where it, or what it needs itself, is not installed', () => {
    expect(loadIfInstalled(load('not-installed'))).toBeUndefined();
    expect(loadIfInstalled(file('incomplete.js'))).toBeUndefined();
  });

  it.each([
    ['not-installed', load('not-installed')],
    ['not-installed-below', () => file('incomplete.js')()],
  ])('stops the start where it is needed, and is named in one line: %s', (name, loading) => {
    let error: unknown;
    try {
      loadNeeded(loading, 'Install it.');
    } catch (thrown) {
      error = thrown;
    }
    expect(isIdempotencySetupError(error)).toBe(true);
    expect(String(error)).toMatch(
      new RegExp(`a package is not installed \\(Cannot find module '${name}'[^\n]*\\)\\. Install it\\.$`),
    );
  });

  it('that fails for another reason says so itself', () => {
    for (const attempt of [loadIfInstalled, (each: () => unknown) => loadNeeded(each, 'Install it.')])
      expect(() => attempt(file('broken.js'))).toThrow(/^broken$/);
  });
});
