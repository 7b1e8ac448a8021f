-- One issue: its value and its place in the index sets, together or not at all.
--
-- KEYS: 1 value, 2 version, 3 open issues, 4 open issues of the service, 5 to 8 Pending, InProcessing, Restored,
--       AutoRestored.
-- ARGV: 1 version as twenty digits, 2 the new value (JSON, made by the caller), 3 id, 4 create or update,
--       5 time to live of a new value in ms, 6 whether it is open (1 or 0), 7 which of the KEYS 5 to 8 it belongs to,
--       8 whether a later version is overwritten (1 or 0), 9 the version that must be there (empty: none; any: any).
-- Answers 1 written, 0 there is no value to update, -1 a later version stands there.

local there = redis.call('EXISTS', KEYS[1]) == 1
if not there and ARGV[4] ~= 'create' then
  return 0
end
if is_stale(ARGV[8], ARGV[9]) then
  return -1
end

if there then
  redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[5])
end
set_version()
for place = 3, 4 do
  place_in(KEYS[place], ARGV[3], ARGV[6] == '1')
end
for place = 5, 8 do
  place_in(KEYS[place], ARGV[3], place == tonumber(ARGV[7]))
end
return 1
