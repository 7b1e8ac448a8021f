-- One issue: its value and its place in the index sets, together or not at all.
--
-- KEYS: 1 value, 2 version, 3 open issues, 4 open issues of the service, 5 to 8 Pending, InProcessing, Restored,
--       AutoRestored.
-- ARGV: 1 version as twenty digits, 2 the new value (JSON, made by the caller), 3 id, 4 create or update,
--       5 time to live of a new value in ms, 6 whether it is open (1 or 0), 7 which of the KEYS 5 to 8 it belongs to,
--       8 whether a later version is overwritten (1 or 0), 9 the version that must be there (empty: none; any: any).
-- Answers 1 written, 0 there is no value to update, -1 a later version stands there.

-- Every type is looked at before the first write: an error after it would leave half of the change behind.
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
local there = redis.call('EXISTS', KEYS[1]) == 1
if not there and ARGV[4] ~= 'create' then
  return 0
end
if version and version > ARGV[1] and ARGV[8] ~= '1' then
  return -1
end
if ARGV[9] ~= 'any' and (version or '') ~= ARGV[9] then
  return -1
end

if there then
  redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[5])
end
-- The version lives as long as its value: neither outlasts the other into another life of the key.
local left = redis.call('PTTL', KEYS[1])
if left > 0 then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', left)
else
  redis.call('SET', KEYS[2], ARGV[1])
end

for place = 3, 4 do
  if ARGV[6] == '1' then
    redis.call('SADD', KEYS[place], ARGV[3])
  else
    redis.call('SREM', KEYS[place], ARGV[3])
  end
end
for place = 5, 8 do
  if place == tonumber(ARGV[7]) then
    redis.call('SADD', KEYS[place], ARGV[3])
  else
    redis.call('SREM', KEYS[place], ARGV[3])
  end
end
return 1
