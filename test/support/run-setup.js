const { chmodSync, mkdtempSync, readFileSync, statfsSync } = require('node:fs');
const { tmpdir, totalmem } = require('node:os');
const { join } = require('node:path');

const MEMORY = '/dev/shm';
const GIB = 2 ** 30;

/** Whether the servers of three workers have room in memory. `noexec`: a copy of Postgres' binaries may lie there too. */
function hasRoom() {
  try {
    const { bavail, bsize } = statfsSync(MEMORY);
    const mount = readFileSync('/proc/mounts', 'utf8')
      .split('\n')
      .find((line) => line.split(' ')[1] === MEMORY);
    return (
      mount !== undefined &&
      !mount.includes('noexec') &&
      bavail * bsize >= 4 * GIB &&
      Math.min(totalmem(), process.constrainedMemory() || Infinity) >= 8 * GIB
    );
  } catch {
    return false; // not on this system
  }
}

/**
 * A folder for this run. One initdb serves all its specs (servers/postgres-data.ts). In memory, where there is room, a
 * database is made and deleted in a fifth of the time that a disk takes.
 */
module.exports = () => {
  const inMemory = hasRoom();
  const folder = mkdtempSync(join(inMemory ? MEMORY : tmpdir(), 'nestjs-idempotency-run-'));
  chmodSync(folder, 0o755); // Postgres' user has to get in
  process.env.POSTGRES_TEMPLATES = folder;
  if (inMemory) process.env.TMPDIR = folder;
};
