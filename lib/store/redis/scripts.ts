import { createHash } from 'node:crypto';

/**
 * A Lua script over exactly one key (except PUT, which is given several on a single server), so that it runs on a
 * cluster as well. Its first argument is a deadline (ms by Redis' clock; 0: none): a command that arrives later than
 * that, because Redis or the network stood still, has no caller who waits for it any more, and is dropped.
 *
 * Every script but PUT replies `[verdict, Redis' time in ms, value that stands or nil]`.
 */
export interface Script {
  readonly source: string;
  readonly sha: string;
}

/** What a script did. */
export const VERDICT = {
  /** It did what it was asked. */
  done: 1,
  /** It did nothing, for the sake of the record that stands. */
  refused: 0,
  /** It came after its deadline and did nothing. */
  late: -1,
  /** It did nothing, because the value that stands is not ours. */
  foreign: -2,
  /** It did what it was asked, in place of a value of another type. */
  displaced: 2,
} as const;

/** Helpers of all scripts. The value's layout is described in the codec; all times are ms by Redis' own clock. */
const HELPERS = `
local DONE, REFUSED, LATE, FOREIGN, DISPLACED = 1, 0, -1, -2, 2
local IN_PROGRESS, COMPLETED, REMOVED = 0, 2, 3

local key = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function digits(number) return string.format('%.0f', number) end

local function reply(verdict, value) return { verdict, digits(now), value or false } end

-- The numbers of a value's head; nothing if it is not ours.
local function head(value)
  local rank, fence, attempt, lease = string.match(value, '^([0-3]):(%d+):(%d+):(%d+):%d+\\n')
  return tonumber(rank), tonumber(fence), tonumber(attempt), tonumber(lease)
end

-- Token and fingerprint of a value; nothing if it is not ours.
local function owner(value)
  local line = string.match(value, '^[^\\n]*\\n([^\\n]*)\\n')
  local ok, meta = pcall(cjson.decode, line)
  if ok and type(meta) == 'table' then return meta.token, meta.fingerprint end
end

local function write(rank, fence, attempt, lease, ttl, rest)
  local numbers = { rank, digits(fence), digits(attempt), digits(lease), digits(now + ttl) }
  redis.call('SET', key, table.concat(numbers, ':') .. '\\n' .. rest, 'PX', digits(ttl))
end

-- The value that stands, and whether it is ours. A value of another type is an error to GET, hence pcall.
local function standing()
  local value = redis.pcall('GET', key)
  if not value then return nil, true end
  if type(value) == 'table' then return nil, false end
  local rank = head(value)
  return value, rank == REMOVED or (rank ~= nil and owner(value) ~= nil)
end

local function late(deadline) return deadline > 0 and now >= deadline end
`;

const ONE_KEY = `
if late(tonumber(ARGV[1])) then return reply(LATE) end
`;

function script(body: string, prelude = HELPERS + ONE_KEY): Script {
  const source = prelude + body;
  return { source, sha: createHash('sha1').update(source).digest('hex') };
}

/**
 * Keeps the greater of (fence, rank): late, repeated and reordered writes are harmless. A foreign value gives way.
 * KEYS: records. ARGV, for each of them: deadline, rank, fence, attempt, lease and ttl in one, with blanks between; rest.
 * Replies `[verdicts, Redis' time in ms]`. Verdict: done (also if a later state of this claim stands), displaced,
 * refused or late.
 */
export const PUT = script(
  `
local function put(deadline, rank, fence, attempt, lease, ttl, rest)
  if late(deadline) then return LATE end
  local old = redis.pcall('GETRANGE', key, 0, 95)
  if type(old) == 'string' then
    local oldRank, oldFence = head(old)
    if oldRank and oldFence > fence then return REFUSED end
    if oldRank and oldFence == fence and oldRank >= rank then
      return (oldRank == rank or oldRank < REMOVED) and DONE or REFUSED
    end
  end
  write(rank, fence, attempt, lease > 0 and now + lease or 0, ttl, rest)
  return type(old) == 'string' and DONE or DISPLACED
end

local verdicts = {}
for i = 1, #KEYS do
  key = KEYS[i]
  local deadline, rank, fence, attempt, lease, ttl = string.match(
    ARGV[2 * i - 1], '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
  verdicts[i] = put(tonumber(deadline), tonumber(rank), tonumber(fence), tonumber(attempt), tonumber(lease),
    tonumber(ttl), ARGV[2 * i])
end
return { verdicts, digits(now) }
`,
  HELPERS,
);

/**
 * Reads a record together with the clock that its lease runs on.
 * KEYS: record. ARGV: deadline. Verdict: done, foreign or late.
 */
export const INSPECT = script(`
local value, ours = standing()
if not ours then return reply(FOREIGN) end
return reply(DONE, value)
`);

/**
 * Claims an absent key, or takes a lapsed claim over; the same token again holds what it has, for a new lease.
 * The value lives longer than the lease, so that an orphan is seen as one.
 * KEYS: record. ARGV: deadline, lease, ttl, take over (0 or 1), token, fingerprint, rest.
 * Verdict: done (with the claim), refused (with the record that stands), foreign or late.
 */
export const CLAIM = script(`
local lease, ttl = tonumber(ARGV[2]), tonumber(ARGV[3])
local value, ours = standing()
if not ours then return reply(FOREIGN) end

local lastFence, attempt = 0, 1
if value then
  local rank, fence, oldAttempt, leaseUntil = head(value)
  lastFence = fence
  if rank ~= REMOVED then
    local token, fingerprint = owner(value)
    if rank == IN_PROGRESS and token == ARGV[5] then
      write(rank, fence, oldAttempt, math.max(leaseUntil, now + lease), ttl, ARGV[7])
      return reply(DONE, redis.call('GET', key))
    end
    local orphaned = rank == IN_PROGRESS and leaseUntil <= now
    if not (orphaned and ARGV[4] == '1' and fingerprint == ARGV[6]) then return reply(REFUSED, value) end
    attempt = oldAttempt + 1
  end
end

-- Microseconds, so that the fence rises also over a record that Redis has dropped or lost.
local fence = math.max(lastFence + 1, time[1] * 1000000 + time[2])
write(IN_PROGRESS, fence, attempt, now + lease, ttl, ARGV[7])
return reply(DONE, redis.call('GET', key))
`);

/**
 * Records an outcome unless another claim stands; the first outcome of a claim stays.
 * KEYS: record. ARGV: deadline, fence, attempt, token, ttl, rest. Verdict: done, refused (with the record), foreign or late.
 */
export const COMPLETE = script(`
local fence = tonumber(ARGV[2])
local value, ours = standing()
if not ours then return reply(FOREIGN) end
if value then
  local rank, oldFence = head(value)
  if rank ~= REMOVED then
    if oldFence ~= fence or owner(value) ~= ARGV[4] then return reply(REFUSED, value) end
    if rank ~= IN_PROGRESS then return reply(DONE) end
  end
end
write(COMPLETED, fence, tonumber(ARGV[3]), 0, tonumber(ARGV[5]), ARGV[6])
return reply(DONE)
`);

/**
 * Gives an unfinished claim back. A mark stays for a while, which keeps late writes of the claim out and the fence rising.
 * KEYS: record. ARGV: deadline, fence (0: unknown, the token alone names the claim), token, ttl of the mark.
 * Verdict: done, refused or late.
 */
export const RELEASE = script(`
local value, ours = standing()
if not value or not ours then return reply(REFUSED) end
local rank, fence, attempt = head(value)
local named = ARGV[2] == '0' or fence == tonumber(ARGV[2])
if rank ~= IN_PROGRESS or not named or owner(value) ~= ARGV[3] then return reply(REFUSED) end
if ARGV[2] == '0' and attempt > 1 then
  -- It took an orphan over, and no handler ran under it; that one's may have: an orphan it stays.
  write(IN_PROGRESS, fence, attempt, now, redis.call('PTTL', key), string.match(value, '^[^\\n]*\\n(.*)$'))
else
  write(REMOVED, fence, attempt, 0, tonumber(ARGV[4]), '')
end
return reply(DONE)
`);

/**
 * Extends a lease, also one that has lapsed, as long as no request took the claim over.
 * KEYS: record. ARGV: deadline, fence, token, lease, ttl. Verdict: done, refused or late.
 */
export const RENEW = script(`
local value, ours = standing()
if not value or not ours then return reply(REFUSED) end
local rank, fence, attempt = head(value)
if rank ~= IN_PROGRESS or fence ~= tonumber(ARGV[2]) or owner(value) ~= ARGV[3] then return reply(REFUSED) end
write(rank, fence, attempt, now + ARGV[4], tonumber(ARGV[5]), string.match(value, '^[^\\n]*\\n(.*)$'))
return reply(DONE)
`);

/**
 * Deletes the record of a claim whose lease is not alive.
 * KEYS: record. ARGV: deadline, fence, token, ttl of the mark. Verdict: done, refused or late.
 */
export const FORGET = script(`
local value, ours = standing()
if not value or not ours then return reply(REFUSED) end
local rank, fence, attempt, leaseUntil = head(value)
if rank == REMOVED or (rank == IN_PROGRESS and leaseUntil > now) then return reply(REFUSED) end
if fence ~= tonumber(ARGV[2]) or owner(value) ~= ARGV[3] then return reply(REFUSED) end
write(REMOVED, fence, attempt, 0, tonumber(ARGV[4]), '')
return reply(DONE)
`);
