-- KEYS: the hash of the shard's meta entries. ARGV: the token's field or '', a new token or '' (put where there is none),
-- further fields.
-- Gives the shard's state, its replicas, the replication id, the token, and the further fields' values.

local field, fresh = ARGV[1], ARGV[2]
local token = field ~= '' and redis.call('HGET', KEYS[1], field)
if fresh ~= '' and (not token or token == '') then
  token = fresh
  redis.call('HSET', KEYS[1], field, token)
end
local values = {}
if #ARGV > 2 then values = redis.call('HMGET', KEYS[1], unpack(ARGV, 3)) end
local state, replicas = this_shard()
return {state, replicas, replication_id(), token, values}
