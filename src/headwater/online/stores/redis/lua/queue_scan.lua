-- ARGV: a cursor. Gives the next cursor, and ids and hints by turns.

local found = redis.call('HSCAN', items, ARGV[1], 'COUNT', 500)
return {found[1], found[2]}
