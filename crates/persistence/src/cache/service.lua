-- One service state: its value and its place in exactly one of the health sets, together or not at all.
--
-- KEYS: 1 value, 2 version, 3 to 5 Normal, Warning, Error.
-- ARGV: 1 version as twenty digits, 2 the new value (JSON, made by the caller), 3 which of the KEYS 3 to 5 it
--       belongs to, 4 whether a later version is overwritten (1 or 0), 5 the version that must be there (empty: none;
--       any: any).
-- Answers 1 written, -1 a later version stands there.

if is_stale(ARGV[4], ARGV[5]) then
  return -1
end

-- It has no time to live of our making; one that somebody else gave is kept.
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
set_version()
for place = 3, 5 do
  place_in(KEYS[place], KEYS[1], place == tonumber(ARGV[3]))
end
return 1
