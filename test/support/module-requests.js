/**
 * Lets a child process of a test tell which packages the files of `lib` have asked for, and do without some: those that
 * MISSING names (separated by commas) are not found.
 */
const Module = require('node:module');
const { join, sep } = require('node:path');

const lib = join(__dirname, '../../lib') + sep;
const missing = new Set((process.env.MISSING ?? '').split(','));
const asked = new Set();

const resolve = Module._resolveFilename;
Module._resolveFilename = function (request, parent, ...rest) {
  const [name] = /^(@[^/]+\/)?[^./@][^/]*/.exec(request) ?? [];
  if (name && !Module.isBuiltin(request) && parent?.filename?.startsWith(lib)) asked.add(name);
  if (missing.has(name))
    throw Object.assign(new Error(`Cannot find module '${request}'`), { code: 'MODULE_NOT_FOUND' });
  return resolve.call(this, request, parent, ...rest);
};

/** Names of the packages, and paths of the files of `lib`, so far. */
globalThis.loadedByLib = () => ({
  packages: [...asked].sort(),
  files: Object.keys(require.cache)
    .filter((file) => file.startsWith(lib))
    .map((file) => file.slice(lib.length)),
});
