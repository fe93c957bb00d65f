-- KEYS: the token's. ARGV: a new token. Gives the token, which is put where there is none, and the replication id.

local token = redis.call('GET', KEYS[1])
if not token or token == '' then
  token = ARGV[1]
  redis.call('SET', KEYS[1], token)
end
return {token, replication_id()}
