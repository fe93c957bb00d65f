-- KEYS: the hash of the shard's meta entries. ARGV: the high-water mark's field, its number (8 bytes).

if is_lower(redis.call('HGET', KEYS[1], ARGV[1]), ARGV[2]) then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return 1
