-- Stands before the scripts that write, after `types.lua`. ARGV: 1 version as twenty digits.
local version = redis.call('GET', KEYS[2])
if version and (#version ~= 20 or string.find(version, '%D')) then
  return redis.error_reply('WRONGTYPE key ' .. KEYS[2] .. ' does not hold a version of twenty digits')
end

-- Whether another version stands there than may be overwritten. `force`: a later one may be too (1 or 0).
-- `expected`: the one that must be there (empty: none; any: any).
local function is_stale(force, expected)
  if version and version > ARGV[1] and force ~= '1' then
    return true
  end
  return expected ~= 'any' and (version or '') ~= expected
end

-- The version lives as long as its value: neither outlasts the other into another life of the key.
local function set_version()
  local left = redis.call('PTTL', KEYS[1])
  if left > 0 then
    redis.call('SET', KEYS[2], ARGV[1], 'PX', left)
  else
    redis.call('SET', KEYS[2], ARGV[1])
  end
end

-- Puts a member into a set, or takes it out.
local function place_in(key, member, belongs)
  redis.call(belongs and 'SADD' or 'SREM', key, member)
end
