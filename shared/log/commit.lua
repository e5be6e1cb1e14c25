#!lua name=@LIBRARY@
-- The operations that must be atomic on the server: claims of a group, its conditional commits, and the fence that
-- stops intents.
--
-- All keys of a call lie in one slot, and are passed in KEYS. KEYS[1] is the hash of the group (for `fence`, the hash of
-- the fence). Its fields are documented in shared/log/redis.py. The first element of a reply names the outcome.
-- Everything is checked before the first write, because the writes of a function that fails half-way are not undone.

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function text(number)
  return string.format('%.0f', number)
end

local function not_streams(keys, first)
  for at = first, #keys do
    local kind = redis.call('TYPE', keys[at]).ok
    if kind ~= 'stream' and kind ~= 'none' then
      return { 'NOSTREAM', keys[at], kind }
    end
  end
end

-- Sets the offset of the consumer group. Returns true if the consumer group had to be created.
local function show(key, group, consumer, id, seen)
  local done = redis.pcall('XGROUP', 'SETID', key, group, id, 'ENTRIESREAD', seen)
  if not (type(done) == 'table' and done.err) then
    return false
  end
  redis.call('XGROUP', 'CREATE', key, group, id, 'MKSTREAM', 'ENTRIESREAD', seen)
  redis.call('XGROUP', 'CREATECONSUMER', key, group, consumer)
  return true
end

local function position(value)
  return string.match(value or '0-0 0', '^(%S+) (%d+)$')
end

-- Returns the running digests of a group as a flat list: field, value, field, value, ...
local function digests(key)
  local all, found = redis.call('HGETALL', key), {}
  for at = 1, #all, 2 do
    if string.sub(all[at], 1, 6) == 'wrote:' then
      found[#found + 1] = all[at]
      found[#found + 1] = all[at + 1]
    end
  end
  return found
end

local function facts_of(flat)
  local facts = {}
  for at = 1, #flat, 2 do
    facts[flat[at]] = flat[at + 1]
  end
  return facts
end

-- Returns the position of a consumer group, to replace that of a lost hash. Commits keep both equal.
local function visible(key, group)
  local flat = redis.pcall('XINFO', 'GROUPS', key)
  for _, each in ipairs(flat.err and {} or flat) do
    local facts = facts_of(each)
    local seen = facts['entries-read']
    if facts['name'] == group and facts['last-delivered-id'] ~= '0-0' then
      if not seen then
        seen = facts_of(redis.call('XINFO', 'STREAM', key))['entries-added']
          - #redis.call('XRANGE', key, '(' .. facts['last-delivered-id'], '+')
      end
      return facts['last-delivered-id'] .. ' ' .. text(seen)
    end
  end
end

-- KEYS: group hash, set of groups, input streams.
-- ARGV: group, owner, consumer name of the owner, lease in ms, '' | 'force' | epoch that may be replaced, random
-- token to store as `last`, stream names.
-- The reply contains no digests if the last owner kept none.
local function claim(keys, args)
  local group, owner, consumer, lease, mode = args[1], args[2], args[3], args[4], args[5]
  local wrong = not_streams(keys, 3)
  if wrong then return wrong end
  local held = redis.call('HMGET', keys[1], 'epoch', 'owner', 'lease', 'claimed', 'consumer', 'memo', 'since', 'wrote',
    'restored')
  local epoch, ends, now = held[1] or '0', tonumber(held[3] or '0'), now_ms()
  if ends > now + lease then
    -- The clock was set back since the lease was extended. Let it end in time, unless its owner extends it again.
    ends = now + lease
    redis.call('HSET', keys[1], 'lease', text(ends))
  end
  if ends > now and mode ~= 'force' and mode ~= epoch then
    return { 'OWNED', epoch, held[2], held[4], text(ends), text(now) }
  end
  local wrote = held[8] == epoch and digests(keys[1]) or {}
  local raised = redis.call('HINCRBY', keys[1], 'epoch', 1)
  redis.call('HSET', keys[1], 'owner', owner, 'consumer', consumer, 'claimed', text(now),
    'lease', text(now + lease), 'last', args[6], 'wrote', text(raised))
  redis.call('SADD', keys[2], group)
  local positions, restored = {}, {}
  for at = 3, #keys do
    local stream = args[at + 4]
    local field, stands = 'pos:' .. stream, redis.call('HGET', keys[1], 'pos:' .. stream)
    if not held[1] then
      stands = visible(keys[at], group)
      restored[#restored + 1] = stands and stream
    end
    local id, seen = position(stands)
    redis.call('HSETNX', keys[1], field, id .. ' ' .. seen)
    if not show(keys[at], group, consumer, id, seen) then
      if held[5] and held[5] ~= consumer then
        redis.call('XGROUP', 'DELCONSUMER', keys[at], group, held[5])
      end
      redis.call('XGROUP', 'CREATECONSUMER', keys[at], group, consumer)
    end
    local read = redis.call('HGET', keys[1], 'read:' .. stream) or ''
    local known, digest = string.match(read, '^(%S+) (%x+)$')
    positions[#positions + 1] = id .. ' ' .. seen .. (known == id and ' ' .. digest or '')
  end
  if #restored > 0 then
    redis.call('HSET', keys[1], 'restored', table.concat(restored, ' '))
  end
  local former = ends > 0 and held[2] or ''
  local since_restored = #restored > 0 and table.concat(restored, ' ') or held[9] or ''
  return { 'CLAIMED', text(raised), former, held[6] or '', held[7] or '{}', positions, wrote, since_restored }
end

local function fenced(keys, epoch)
  local held = redis.call('HMGET', keys[1], 'epoch', 'owner')
  if held[1] ~= epoch then
    return { 'FENCED', held[1] or '0', held[2] or '' }
  end
end

-- KEYS: group hash. ARGV: epoch, lease in ms.
local function renew(keys, args)
  local refused = fenced(keys, args[1])
  if refused then return refused end
  redis.call('HSET', keys[1], 'lease', text(now_ms() + args[2]))
  return { 'DONE' }
end

-- KEYS: group hash, input streams. ARGV: epoch, group.
local function release(keys, args)
  local refused = fenced(keys, args[1])
  if refused then return refused end
  local consumer = redis.call('HGET', keys[1], 'consumer')
  redis.call('HSET', keys[1], 'lease', '0')
  for at = 2, #keys do
    redis.pcall('XGROUP', 'DELCONSUMER', keys[at], args[2], consumer)
  end
  return { 'DONE' }
end

-- Refuses a commit that was decided under another mark than the fence has. Also refuses a commit with intents that was
-- not decided under an open mark of the fence of the intents' partition. The output streams are keys[first] and the
-- following keys. A commit without a fence (nil) must not have intents.
local function halted(keys, first, fence, mark)
  local there = fence and redis.call('HGET', fence, 'mark') or ''
  if fence and mark ~= there then
    return { 'HALTED', there }
  end
  for at = first, #keys do
    local partition = string.sub(keys[at], -8) == ':intents' and string.sub(keys[at], 1, -8)
    if partition and not (fence == partition .. 'fence' and string.sub(there, 1, 5) == 'open ') then
      return { 'HALTED', there }
    end
  end
end

-- KEYS: fence hash, decisions.
-- ARGV: new mark, 'if' | 'any', the mark that the fence must have now (with 'if'), a note for decisions.
-- Replies with the mark that the fence has afterwards.
local function fence(keys, args)
  local wrong = not_streams(keys, 2)
  if wrong then return wrong end
  local there = redis.call('HGET', keys[1], 'mark') or ''
  if there == args[1] or args[2] == 'if' and there ~= args[3] then
    return { 'FENCE', there }
  end
  redis.call('XADD', keys[2], '*', 'e', args[4])
  redis.call('HSET', keys[1], 'mark', args[1])
  return { 'FENCE', args[1] }
end

-- Returns the function that appends to a stream. A stream takes no entry after one with the greatest id, which any
-- client can append that may write to it. Alarms and dead letters are then lost, because work does not depend on them.
local function appender(key)
  local reports = string.sub(key, -7) == ':alarms' or string.sub(key, -5) == ':dead'
  return reports and redis.pcall or redis.call
end

-- KEYS: group hash, input streams, output streams.
-- Replies with DONE, the names of input streams whose consumer group was created, and '!' and the key of each output
-- stream that took no entry.
-- ARGV: epoch, lease in ms, group, token of the previous commit, token of this commit, memo, since, number of input
-- streams. Then for each input stream: name, position before, id after, seen after, digest of the entry with that id.
-- Then for each output stream: number of entries, field of the group's running digest ('' if it keeps none), 'on' if
-- the digest continues or 'new' if it starts, its count and digest after these entries, and the entries.
local function apply(keys, args, fence, mark)
  local call, inputs = redis.call, tonumber(args[8])
  local fields, outputs = { 'epoch', 'last', 'owner', 'consumer', 'restored' }, 9 + 5 * inputs
  for stream = 1, inputs do
    fields[5 + stream] = 'pos:' .. args[4 + 5 * stream]
  end
  local at = outputs
  for stream = 2 + inputs, #keys do
    fields[4 + stream] = args[at + 1]
    at = at + 4 + tonumber(args[at])
  end
  -- One call reads all fields that are needed, because the overhead of a call is as large as the work that it does.
  local held = call('HMGET', keys[1], unpack(fields))
  if held[1] ~= args[1] then
    return { 'FENCED', held[1] or '0', held[3] or '' }
  end
  local lease = text(now_ms() + args[2])
  if held[2] == args[5] then
    redis.call('HSET', keys[1], 'lease', lease)
    return { 'DONE' }
  end
  if held[2] ~= args[4] then
    return { 'STALE', held[3] or '' }
  end
  local changes = { 'lease', lease, 'last', args[5], 'memo', args[6], 'since', args[7] }
  if held[5] and held[5] ~= '' then
    changes[9], changes[10] = 'restored', ''
  end
  for stream = 1, inputs do
    local at = 4 + 5 * stream
    local field, stands = fields[5 + stream], held[5 + stream] or '0-0 0'
    if stands ~= args[at + 1] then
      return { 'MOVED', args[at], stands, args[at + 1] }
    end
    changes[#changes + 1] = field
    changes[#changes + 1] = args[at + 2] .. ' ' .. args[at + 3]
    changes[#changes + 1] = 'read:' .. args[at]
    changes[#changes + 1] = args[at + 2] .. ' ' .. args[at + 4]
  end
  local wrong = not_streams(keys, 2) or halted(keys, 2 + inputs, fence, mark)
  if wrong then return wrong end

  at = outputs
  local done = { 'DONE' }
  for stream = 2 + inputs, #keys do
    local key, last, first, id = keys[stream], at + 3 + tonumber(args[at]), nil, nil
    local append = appender(key)
    for entry = at + 4, last do
      id = append('XADD', key, '*', 'e', args[entry])
      first = first or id
    end
    if type(id) == 'table' and id.err then
      done[#done + 1] = '!' .. key
    end
    local field = args[at + 1]
    if field ~= '' then
      local known = args[at + 2] == 'on' and held[4 + stream] or first
      changes[#changes + 1] = field
      changes[#changes + 1] = string.match(known, '^%S+') .. ' ' .. id .. ' ' .. args[at + 3]
    end
    at = last + 1
  end
  call('HSET', keys[1], unpack(changes))
  for stream = 1, inputs do
    local spot = 4 + 5 * stream
    if show(keys[1 + stream], args[3], held[4], args[spot + 2], args[spot + 3]) then
      done[#done + 1] = args[spot]
    end
  end
  return done
end

local function commit(keys, args)
  return apply(keys, args)
end

-- KEYS: those of `commit`, then the fence hash. ARGV: those of `commit`, then the mark under which it was decided.
local function commit_under(keys, args)
  return apply(keys, args, table.remove(keys), table.remove(args))
end

redis.register_function('@LIBRARY@_claim', claim)
redis.register_function('@LIBRARY@_renew', renew)
redis.register_function('@LIBRARY@_release', release)
redis.register_function('@LIBRARY@_commit', commit)
redis.register_function('@LIBRARY@_commit_under', commit_under)
-- A halt must close the fence of a server whose memory is full, too. It writes a few bytes.
redis.register_function{ function_name = '@LIBRARY@_fence', callback = fence, flags = { 'allow-oom' } }
