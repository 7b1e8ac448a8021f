-- How a value, its version and its places in index sets stand at one moment. Writes nothing.
--
-- KEYS: 1 value, 2 version, then sets. ARGV: 1 the member.
-- Answers value, version (empty: none), then 1 or 0 for each set.
local answer = { redis.call('GET', KEYS[1]) or '', redis.call('GET', KEYS[2]) or '' }
for place = 3, #KEYS do
  answer[place] = tostring(redis.call('SISMEMBER', KEYS[place], ARGV[1]))
end
return answer
