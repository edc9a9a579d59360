-- Writes records, each with its entry in the outbox, in one step; nothing while the gate is closed or missing.
-- KEYS: gate, outbox, then one key a write. ARGV: whether this is a replay, then for each write: number (of a replay), kind,
-- command, replaces, most, lifetime in ms, window, removed, element, count of arguments, arguments.
local epoch, mode, clock, replayed = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'mode', 'clock', 'replayed'))
local replay = ARGV[1] == '1'
if not epoch or (mode == 'closed') ~= replay then
  return {'closed', epoch or '', mode or ''}
end
-- Later than anything that was read from this server before, and than every write before, also when its clock was set back.
local time = redis.call('TIME')
local now = math.max(time[1] * 1000000 + time[2], tonumber(clock or '0')) + 1
local notes = mode == 'dual_write' or mode == 'shadow'
local at, last = 2, tonumber(replayed or '0')
for place = 3, #KEYS do
  local key = KEYS[place]
  local number, kind, command, replaces, most, life, window, removed, element, count = unpack(ARGV, at, at + 9)
  local arguments = {unpack(ARGV, at + 10, at + 9 + count)}
  at = at + 10 + count
  if not replay or tonumber(number) > last then
    local equals, stream, score = 0, '', ''
    if notes and (command == 'RPUSH' or command == 'LPUSH') then
      local rank = command == 'RPUSH' and -1 or 1
      equals = #redis.call('LPOS', key, arguments[1], 'RANK', rank, 'COUNT', 0, 'MAXLEN', window)
    end
    if replaces == '1' then
      -- A value of another type is refused, as any command would refuse it.
      redis.call('HLEN', key)
      redis.call('DEL', key)
    end
    local answer = redis.call(command, key, unpack(arguments))
    if command == 'XADD' then
      stream = answer
    elseif command == 'ZADD' then
      score = redis.call('ZSCORE', key, arguments[2])
    elseif most ~= '0' and command == 'RPUSH' then
      redis.call('LTRIM', key, -most, -1)
    elseif most ~= '0' and command == 'LPUSH' then
      redis.call('LTRIM', key, 0, most - 1)
    end
    if life ~= '0' then
      redis.call('PEXPIRE', key, life)
    end
    if notes then
      local left = redis.call('PTTL', key)
      local expires = left > 0 and string.format('%.0f', now + left * 1000) or ''
      redis.call('XADD', KEYS[2], '*', 'kind', kind, 'key', key, 'element', element, 'at', string.format('%.0f', now),
        'expires', expires, 'equals', equals, 'stream', stream, 'score', score, 'removed', removed)
    end
    if replay then
      redis.call('HSET', KEYS[1], 'replayed', number)
    end
  end
end
redis.call('HSET', KEYS[1], 'clock', string.format('%.0f', now))
return {'done', epoch, mode}
