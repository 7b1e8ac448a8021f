-- Stands before every script. KEYS: 1 value, 2 version, then sets.
--
-- Every type is looked at before the first write: an error after it would leave half of the change behind.
for place, key in ipairs(KEYS) do
  local expected = place <= 2 and 'string' or 'set'
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= expected then
    return redis.error_reply('WRONGTYPE key ' .. key .. ' is a ' .. found .. ', a ' .. expected .. ' was expected')
  end
end
