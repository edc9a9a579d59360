-- Asks whether this user may do commands, and does none; Redis before 7 cannot say, and lets all pass.
-- KEYS: one a command. ARGV: for each command its name, count of arguments, arguments. Returns the first that is denied.
local at = 1
for _, key in ipairs(redis.acl_check_cmd and KEYS or {}) do
  local command, count = ARGV[at], ARGV[at + 1]
  if not redis.acl_check_cmd(command, key, unpack(ARGV, at + 2, at + 1 + count)) then
    return {command, key}
  end
  at = at + 2 + count
end
return {}
