/**
 * Lets a child process of a test run TypeScript as it lies there, with the package's name for `lib`, or for what was
 * built from it where PACKAGE is `dist`. MUTATION (a list of `{ file, from, to }` as JSON) changes files on their way, for
 * tests that have to see broken code found out.
 */
const { readFileSync } = require('node:fs');
const Module = require('node:module');
const { join } = require('node:path');
const { transformSync } = require('@swc/core');

const root = join(__dirname, '../..');
const [folder, extension] = process.env.PACKAGE === 'dist' ? ['dist', 'js'] : ['lib', 'ts'];
const entries = Object.fromEntries(
  [
    ['', 'index'],
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

require.extensions['.ts'] = (module, filename) => {
  const { code } = transformSync(sourceOf(filename), {
    filename,
    sourceMaps: 'inline',
    jsc: {
      target: 'es2022',
      parser: { syntax: 'typescript', decorators: true },
      transform: { legacyDecorator: true, decoratorMetadata: true },
      keepClassNames: true,
    },
    module: { type: 'commonjs' },
  });
  module._compile(code, filename);
};
