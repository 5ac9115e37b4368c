const { TestEnvironment } = require('jest-environment-node');
const { setFlagsFromString } = require('node:v8');
const { runInNewContext } = require('node:vm');

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc');

/** Bytes. The modules of a spec are a hundred million, of which V8 lets a dozen specs pile up. */
const MOST_GARBAGE = 400e6;

/**
 * Collects what specs have left. Node would take longer to free it at a worker's end than Jest waits, which then warns of
 * a leak where there is none.
 */
module.exports = class extends TestEnvironment {
  async teardown() {
    await super.teardown();
    if (process.memoryUsage().heapUsed > MOST_GARBAGE) collect();
  }
};
