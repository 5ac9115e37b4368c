/**
 * Lets a child process of a test run TypeScript as it lies there, with the package's name for `lib`, or for what was
 * built from it where PACKAGE is `dist`. MUTATION (`{ file, from, to }` as JSON) changes one file on its way, for tests
 * that have to see broken code found out.
 */
const { readFileSync } = require('node:fs');
const Module = require('node:module');
const { join } = require('node:path');
const { transformSync } = require('@swc/core');

const root = join(__dirname, '../..');
const index = join(root, process.env.PACKAGE === 'dist' ? 'dist/index.js' : 'lib/index.ts');
const mutation = process.env.MUTATION ? JSON.parse(process.env.MUTATION) : undefined;

function sourceOf(filename) {
  const source = readFileSync(filename, 'utf8');
  if (!mutation || filename !== join(root, mutation.file)) return source;
  const parts = source.split(mutation.from);
  if (parts.length !== 2) throw new Error(`${mutation.file} has ${parts.length - 1} times: ${mutation.from}`);
  return parts.join(mutation.to);
}

const resolve = Module._resolveFilename;
Module._resolveFilename = function (request, ...rest) {
  const target = request === 'nestjs-idempotency' ? index : request;
  return resolve.call(this, target, ...rest);
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
