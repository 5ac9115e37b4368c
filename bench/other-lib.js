/** After test/support/register.js: the package's name stands for the copy of `lib` in BENCH_LIB. */
const Module = require('node:module');
const { join } = require('node:path');

const resolve = Module._resolveFilename;
Module._resolveFilename = function (request, ...rest) {
  const target = request === 'nestjs-idempotency' ? join(process.env.BENCH_LIB, 'index.ts') : request;
  return resolve.call(this, target, ...rest);
};
