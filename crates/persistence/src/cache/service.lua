-- One service state: its value and its place in exactly one of the health sets, together or not at all.
--
-- KEYS: 1 value, 2 version, 3 to 5 Normal, Warning, Error.
-- ARGV: 1 version as twenty digits, 2 the new value (JSON, made by the caller), 3 which of the KEYS 3 to 5 it
--       belongs to, 4 whether a later version is overwritten (1 or 0), 5 the version that must be there (empty: none;
--       any: any).
-- Answers 1 written, -1 a later version stands there.

for place, key in ipairs(KEYS) do
  local expected = place <= 2 and 'string' or 'set'
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= expected then
    return redis.error_reply('WRONGTYPE key ' .. key .. ' is a ' .. found .. ', a ' .. expected .. ' was expected')
  end
end

local version = redis.call('GET', KEYS[2])
if version and (#version ~= 20 or string.find(version, '%D')) then
  return redis.error_reply('WRONGTYPE key ' .. KEYS[2] .. ' does not hold a version of twenty digits')
end
if version and version > ARGV[1] and ARGV[4] ~= '1' then
  return -1
end
if ARGV[5] ~= 'any' and (version or '') ~= ARGV[5] then
  return -1
end

-- Neither has a time to live of our making; one that somebody else gave is kept, on both.
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
local left = redis.call('PTTL', KEYS[1])
if left > 0 then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', left)
else
  redis.call('SET', KEYS[2], ARGV[1])
end
for place = 3, 5 do
  if place == tonumber(ARGV[3]) then
    redis.call('SADD', KEYS[place], KEYS[1])
  else
    redis.call('SREM', KEYS[place], KEYS[1])
  end
end
return 1
