/**
 * Lets a child process of a test run TypeScript as it lies there, with the package's name for `lib`, or for what was
 * built from it where PACKAGE is `dist`. MUTATION (a list of `{ file, from, to }` as JSON) changes files on their way, for
 * tests that have to see broken code found out.
 */
const { createHash } = require('node:crypto');
const { mkdirSync, readFileSync, renameSync, writeFileSync } = require('node:fs');
const Module = require('node:module');
const { join } = require('node:path');

const root = join(__dirname, '../..');
/** What was compiled before, by its source: a test run starts a hundred processes, each of 200 files. */
const cache = join(root, 'node_modules/.cache/nestjs-idempotency/compiled');
const [folder, extension] = process.env.PACKAGE === 'dist' ? ['dist', 'js'] : ['lib', 'ts'];
const entries = Object.fromEntries(
  [
    ['', 'index'],
    ['/board', 'board/index'],
    ['/testing', 'testing/index'],
    ['/typeorm', 'typeorm'],
  ].map(([path, file]) => [`nestjs-idempotency${path}`, join(root, folder, `${file}.${extension}`)]),
);
const mutations = JSON.parse(process.env.MUTATION ?? '[]');

function sourceOf(filename) {
  const source = readFileSync(filename, 'utf8');
  return mutations
    .filter(({ file }) => filename === join(root, file))
    .reduce((mutated, { file, from, to }) => {
      const parts = mutated.split(from);
      if (parts.length !== 2) throw new Error(`${file} has ${parts.length - 1} times: ${from}`);
      return parts.join(to);
    }, source);
}

const resolve = Module._resolveFilename;
Module._resolveFilename = function (request, ...rest) {
  return resolve.call(this, entries[request] ?? request, ...rest);
};

const OPTIONS = { ...require('./swc'), sourceMaps: 'inline' };
const SETUP = require('@swc/core/package.json').version + JSON.stringify(OPTIONS);

function compiled(source, filename) {
  const digest = createHash('sha256').update([SETUP, filename, source].join('\n')).digest('hex');
  const place = join(cache, `${digest}.js`);
  try {
    return readFileSync(place, 'utf8');
  } catch {
    const { code } = require('@swc/core').transformSync(source, { ...OPTIONS, filename });
    mkdirSync(cache, { recursive: true });
    // Several processes write at once, and none may read a part.
    writeFileSync(`${place}.${process.pid}`, code);
    renameSync(`${place}.${process.pid}`, place);
    return code;
  }
}

require.extensions['.ts'] = (module, filename) =>
  module._compile(compiled(sourceOf(filename), filename), filename);
