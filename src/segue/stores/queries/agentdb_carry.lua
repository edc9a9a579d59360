-- Sets the gate, unless it has that epoch or a newer one; its clock never goes back.
-- KEYS: gate. ARGV: epoch, mode, a time that every write to come is later than.
local epoch, mode, clock = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'mode', 'clock'))
redis.call('HSET', KEYS[1], 'clock', string.format('%.0f', math.max(tonumber(clock or '0'), tonumber(ARGV[3]))))
if epoch and tonumber(epoch) >= tonumber(ARGV[1]) then
  return 0
end
if ARGV[2] == 'closed' and mode ~= 'closed' then
  -- Nothing is to be replayed yet: numbers count from here.
  redis.call('HSET', KEYS[1], 'replayed', 0)
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'mode', ARGV[2])
return 1
