/*
 * Ends with an error unless `require` and `import` give the same classes and tokens, and this package and the
 * application have the same copy of everything that they share.
 */
import { createRequire } from 'node:module';
import * as imported from 'nestjs-idempotency';

const require = createRequire(import.meta.url);
const required = require('nestjs-idempotency');
const { peerDependencies } = require('nestjs-idempotency/package.json');
const ours = createRequire(require.resolve('nestjs-idempotency'));

const differing = Object.keys(required).filter((name) => imported[name] !== required[name]);
if (differing.length > 0) throw new Error(`require and import give different ${differing.join(', ')}`);
const double = Object.keys(peerDependencies).filter((name) => ours.resolve(name) !== require.resolve(name));
if (double.length > 0) throw new Error(`installed twice: ${double.join(', ')}`);
const { Injectable } = await import('@nestjs/common');
if (Injectable !== require('@nestjs/common').Injectable) throw new Error('Nest is loaded twice');
