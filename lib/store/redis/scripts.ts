import { createHash } from 'node:crypto';
import type { Cluster, Redis } from 'ioredis';

/** A Lua script on one key, so that it runs on a cluster as it does on a single server. */
export interface Script {
  readonly source: string;
  readonly sha: string;
}

/** Head of a value: `rank:fence:leaseUntil`; see the codec. All times are Redis' own. */
const PRELUDE = `
local key = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function text(number) return string.format('%.0f', number) end

local function head(value)
  local rank, fence, lease = string.match(value, '^([0-3]):(%d+):(%d+)\\n')
  return tonumber(rank), tonumber(fence), tonumber(lease)
end

local function meta(value)
  return cjson.decode(string.match(value, '^[^\\n]*\\n([^\\n]*)\\n'))
end

local function write(rank, fence, lease, rest, ttl)
  redis.call('SET', key, rank .. ':' .. text(fence) .. ':' .. text(lease) .. '\\n' .. rest, 'PX', text(ttl))
end

-- A value that is not ours must not be taken for an absent record: the caller is told.
local function read()
  local value = redis.pcall('GET', key)
  if type(value) == 'table' then return nil, true end
  if not value then return nil, false end
  return value, head(value) == nil
end
`;

function script(body: string): Script {
  const source = PRELUDE + body;
  return { source, sha: createHash('sha1').update(source).digest('hex') };
}

/**
 * Keeps the greater of (fence, rank), so that late, repeated and reordered writes are harmless.
 * ARGV: rank, fence, lease (ms), ttl (ms), rest. Returns 1 if the entry, or a later state of the same claim, stands.
 */
export const REMEMBER = script(`
local rank, fence = tonumber(ARGV[1]), tonumber(ARGV[2])
local old = redis.pcall('GETRANGE', key, 0, 63)
if type(old) == 'string' then
  local oldRank, oldFence = head(old)
  if oldRank and oldFence > fence then return 0 end
  if oldRank and oldFence == fence and oldRank >= rank then
    return (oldRank == rank or oldRank < 3) and 1 or 0
  end
end
write(rank, fence, now + ARGV[3], ARGV[5], ARGV[4])
return 1
`);

/** Returns the value, 1 if it is foreign, and Redis' clock. */
export const INSPECT = script(`
local value, foreign = read()
return { value or false, foreign and 1 or 0, text(now) }
`);

/**
 * Claims an absent key, or takes a lapsed claim over. ARGV: token, fingerprint, lease (ms), ttl (ms), takeOver (0 or 1).
 * Returns the value that now stands, 1 if it is foreign, and Redis' clock.
 */
export const CLAIM = script(`
local value, foreign = read()
if foreign then return { false, 1, text(now) } end
local last, attempt = 0, 1
if value then
  local rank, fence, lease = head(value)
  last = fence
  if rank ~= 3 then
    if rank ~= 0 or lease > now or ARGV[5] ~= '1' then return { value, 0, text(now) } end
    local old = meta(value)
    if old.token == ARGV[1] or old.fingerprint ~= ARGV[2] then return { value, 0, text(now) } end
    attempt = old.attempt + 1
  end
end
-- Microseconds, so that a fence rises even over a record that Redis has forgotten.
local fence = math.max(last + 1, time[1] * 1000000 + time[2])
local rest = cjson.encode({ token = ARGV[1], fingerprint = ARGV[2], attempt = attempt }) .. '\\n'
write(0, fence, now + ARGV[3], rest, math.max(ARGV[4], ARGV[3]))
return { redis.call('GET', key), 0, text(now) }
`);

/**
 * Records an outcome unless another claim stands. ARGV: fence, token, ttl (ms), rest.
 * Returns false if it is recorded, else the value that stands, 1 if it is foreign, and Redis' clock.
 */
export const COMPLETE = script(`
local value, foreign = read()
if foreign then return { false, 1, text(now) } end
local fence = tonumber(ARGV[1])
if value then
  local rank, oldFence = head(value)
  if rank ~= 3 then
    if oldFence ~= fence or meta(value).token ~= ARGV[2] then return { value, 0, text(now) } end
    if rank == 2 then return false end
  end
end
write(2, fence, 0, ARGV[4], ARGV[3])
return false
`);

/**
 * Gives an unfinished claim back. ARGV: fence (0: its reply was lost, its token names it), token, ttl (ms) of the mark it
 * leaves. Returns 1 if it did.
 */
export const RELEASE = script(`
local value, foreign = read()
if not value or foreign then return 0 end
local rank, fence = head(value)
if rank ~= 0 or (ARGV[1] ~= '0' and fence ~= tonumber(ARGV[1])) or meta(value).token ~= ARGV[2] then return 0 end
if ARGV[1] == '0' and meta(value).attempt > 1 then
  -- It took an orphan over, and no handler ran under it: an orphan it is again.
  write(0, fence, 0, string.match(value, '^[^\\n]*\\n(.*)$'), redis.call('PTTL', key))
else
  write(3, fence, 0, '', ARGV[3])
end
return 1
`);

/** Extends a lease. ARGV: fence, token, lease (ms), ttl (ms). Returns 1 if the claim still stands. */
export const RENEW = script(`
local value, foreign = read()
if not value or foreign then return 0 end
local rank, fence = head(value)
if rank ~= 0 or fence ~= tonumber(ARGV[1]) or meta(value).token ~= ARGV[2] then return 0 end
write(0, fence, now + ARGV[3], string.match(value, '^[^\\n]*\\n(.*)$'), ARGV[4])
return 1
`);

/** Deletes the record of a claim without a live lease. ARGV: fence, token, ttl (ms) of the mark it leaves. Returns 1 if it did. */
export const FORGET = script(`
local value, foreign = read()
if not value or foreign then return 0 end
local rank, fence, lease = head(value)
if rank == 3 or (rank == 0 and lease > now) then return 0 end
if fence ~= tonumber(ARGV[1]) or meta(value).token ~= ARGV[2] then return 0 end
write(3, fence, 0, '', ARGV[3])
return 1
`);

/** Runs a script by its hash; a server that does not know it yet (it restarted) gets its source. */
export async function evaluate(
  client: Redis | Cluster,
  { sha, source }: Script,
  key: string,
  args: readonly (string | number | Buffer)[],
): Promise<unknown> {
  const commands = client as unknown as BufferCommands;
  try {
    return await commands.evalshaBuffer(sha, 1, key, ...args);
  } catch (error) {
    if (!(error instanceof Error && error.message.startsWith('NOSCRIPT'))) throw error;
    return commands.evalBuffer(source, 1, key, ...args);
  }
}

/** ioredis has these, its types do not; `callBuffer` loses its first argument under auto-pipelining. */
type BufferCommands = Record<
  'evalshaBuffer' | 'evalBuffer',
  (script: string, keys: 1, key: string, ...args: (string | number | Buffer)[]) => Promise<unknown>
>;
