"""The refresh queue on Redis Streams: a stream for each view and band of urgency, whose entries workers claim.

    …:items      hash: id → the hint (JSON) and how it stands
    …:streams    set: view:band of each stream there is
    …:s:VIEW:B   stream of ids, band 0 the most urgent; one consumer group, whose pending entries are leases
    …:rest …:retry …:dead   sorted sets: id → until when, or when it died

Each method is one script or a few, so that no process that dies leaves the queue half-changed.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from headwater.online.hints import Claim, DeadLetter, Fate, Hint, HintQueue, Outcome, QueueCounts
from headwater.online.keys import META_PREFIX
from headwater.online.stores.redis_scripts import Script

Call = Callable[[Script, Sequence[bytes], Sequence[Any]], Any]
"""Runs a script where some keys lie: the script, the keys, the values."""

_AT_ONCE = 500
"""Hints of one script: the server answers nobody else meanwhile."""

# KEYS[1] is what all keys begin with; they share its slot
_SHARED = """
local base = KEYS[1]
local items, streams, rest, retry, dead = base..':items', base..':streams', base..':rest', base..':retry', base..':dead'
local function stream(view, band) return base..':s:'..view..':'..band end
local function get(id)
  local found = redis.call('HGET', items, id)
  return found and cjson.decode(found)
end
local function set(id, item) redis.call('HSET', items, id, cjson.encode(item)) end
local function band(item, now)
  local urgency = (now - tonumber(item.event)) / tonumber(item.sla) * item.asked
  return urgency >= 16 and 0 or urgency >= 4 and 1 or 2
end
local function enqueue(id, item, now)
  item.band, item.token = band(item, now), ''
  local key = stream(item.view, item.band)
  if redis.call('SADD', streams, item.view..':'..item.band) == 1 or redis.call('EXISTS', key) == 0 then
    redis.pcall('XGROUP', 'CREATE', key, 'workers', '0', 'MKSTREAM')
  end
  item.entry = redis.call('XADD', key, '*', 'id', id)
  set(id, item)
end
local function leave(item)
  if item.entry ~= '' then
    local key = stream(item.view, item.band)
    redis.call('XACK', key, 'workers', item.entry)
    redis.call('XDEL', key, item.entry)
    item.entry, item.token = '', ''
  end
end
local function remove(id, item)
  leave(item)
  redis.call('HDEL', items, id)
  for _, set_ in ipairs({rest, retry, dead}) do redis.call('ZREM', set_, id) end
end
local function lowest(own)
  for b = 2, own, -1 do
    for _, view in ipairs(redis.call('SMEMBERS', streams)) do
      if view:sub(-2) == ':'..b then
        for _, entry in ipairs(redis.call('XRANGE', base..':s:'..view, '-', '+', 'COUNT', 16)) do
          local id = entry[2][2]
          local item = get(id)
          if item and item.token == '' then return id, item end
        end
      end
    end
  end
end
"""

_OFFER = Script(
    (
        _SHARED
        + """
local now, limit, dropped = tonumber(ARGV[1]), tonumber(ARGV[2]), 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', rest, '-inf', now)) do
  redis.call('ZREM', rest, id)
  redis.call('HDEL', items, id)
end
for i = 3, #ARGV, 2 do
  local id, new = ARGV[i], cjson.decode(ARGV[i + 1])
  local old = get(id)
  if not old then
    local room = true
    if redis.call('HLEN', items) - redis.call('ZCARD', rest) - redis.call('ZCARD', dead) >= limit then
      dropped = dropped + 1
      local least, item = lowest(band(new, now))
      if least then remove(least, item) else room = false end
    end
    if room then enqueue(id, new, now) end
  elseif redis.call('ZSCORE', rest, id) then
    if tonumber(new.event) > tonumber(old.event) then
      redis.call('ZREM', rest, id)
      enqueue(id, new, now)
    end
  elseif not redis.call('ZSCORE', dead, id) then
    old.asked = old.asked + new.asked
    if tonumber(new.sla) < tonumber(old.sla) then old.sla = new.sla end
    if tonumber(new.event) > tonumber(old.event) then old.event = new.event end
    if old.entry ~= '' and old.token == '' and band(old, now) < old.band then
      leave(old)
      enqueue(id, old, now)
    else
      set(id, old)
    end
  end
end
return dropped
"""
    ).encode()
)

_CLAIM = Script(
    (
        _SHARED
        + """
local now, lease, limit, token, found = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4], {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', retry, '-inf', now, 'LIMIT', 0, limit)) do
  redis.call('ZREM', retry, id)
  local item = get(id)
  if item then enqueue(id, item, now) end
end
for b = 0, 2 do
  for i = 5, #ARGV do
    local key = stream(ARGV[i], b)
    if #found < limit and redis.call('EXISTS', key) == 1 then
      local entries = redis.call('XAUTOCLAIM', key, 'workers', 'worker', lease, '0-0', 'COUNT', limit - #found)[2]
      if #entries + #found < limit then
        local fresh = redis.call(
          'XREADGROUP', 'GROUP', 'workers', 'worker', 'COUNT', limit - #found - #entries, 'STREAMS', key, '>')
        for _, entry in ipairs(fresh and fresh[1][2] or {}) do entries[#entries + 1] = entry end
      end
      for _, entry in ipairs(entries) do
        local id = entry[2][2]
        local item = get(id)
        if item and item.entry == entry[1] then
          item.tries, item.token = item.tries + 1, token
          set(id, item)
          found[#found + 1] = cjson.encode(item)
        else
          redis.call('XACK', key, 'workers', entry[1])
          redis.call('XDEL', key, entry[1])
        end
      end
    end
  end
end
return found
"""
    ).encode()
)

_SETTLE = Script(
    (
        _SHARED
        + """
for i = 2, #ARGV, 5 do
  local id, token, fate, till, error = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local item = get(id)
  if item and fate == 'done' then
    remove(id, item)
  elseif item and item.token == token and token ~= '' then
    leave(item)
    item.error = error
    set(id, item)
    redis.call('ZADD', fate == 'rest' and rest or fate == 'dead' and dead or retry, till, id)
  end
end
for _, set_ in ipairs({rest, dead}) do
  local over = redis.call('ZCARD', set_) - tonumber(ARGV[1])
  if over > 0 then
    for _, id in ipairs(redis.call('ZRANGE', set_, 0, over - 1)) do
      redis.call('ZREM', set_, id)
      redis.call('HDEL', items, id)
    end
  end
end
return 1
"""
    ).encode()
)

_DEAD = Script(
    (
        _SHARED
        + """
local found = {}
for _, id in ipairs(redis.call('ZREVRANGE', dead, 0, tonumber(ARGV[1]) - 1)) do
  found[#found + 1] = redis.call('HGET', items, id)
  found[#found + 1] = redis.call('ZSCORE', dead, id)
end
return found
"""
    ).encode()
)

_REPLAY = Script(
    (
        _SHARED
        + """
local views, count = {}, 0
for i = 2, #ARGV do views[ARGV[i]] = true end
for _, id in ipairs(redis.call('ZRANGE', dead, 0, -1)) do
  local item = get(id)
  if item and views[item.view] then
    redis.call('ZREM', dead, id)
    item.tries, item.error = 0, ''
    enqueue(id, item, tonumber(ARGV[1]))
    count = count + 1
  end
end
return count
"""
    ).encode()
)

_SCAN = Script(
    (
        _SHARED
        + """
local found = redis.call('HSCAN', items, ARGV[1], 'COUNT', 500)
return {found[1], found[2]}
"""
    ).encode()
)

_COUNTS = Script(
    (
        _SHARED
        + """
local claimed, first = 0, {}
for _, view in ipairs(redis.call('SMEMBERS', streams)) do
  local key = base..':s:'..view
  if redis.call('EXISTS', key) == 1 then
    claimed = claimed + redis.call('XPENDING', key, 'workers')[1]
    local entry = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
    if entry then first[#first + 1] = entry[2][2] end
  end
end
for _, id in ipairs(redis.call('ZRANGE', retry, 0, 99)) do first[#first + 1] = id end
local oldest = ''
for _, id in ipairs(first) do
  local item = get(id)
  if item and (oldest == '' or tonumber(item.asked_at) < tonumber(oldest)) then oldest = item.asked_at end
end
local resting, gone = redis.call('ZCARD', rest), redis.call('ZCARD', dead)
local waiting = redis.call('HLEN', items) - resting - gone - claimed
return {waiting, claimed, redis.call('ZCOUNT', rest, '('..ARGV[1], '+inf'), gone, oldest}
"""
    ).encode()
)


class RedisHintQueue(HintQueue):
    """Hints in Redis; as durable as Redis is.

    A lease is Redis's own time since an entry was claimed. Within a band the oldest hint comes first.

    Args:
        call: runs a script at the primary of a key.
        name: whose queue it is: processes that give one name share one queue.
        limit: how many hints may wait; as many may rest, and be dead.
    """

    kind = "redis streams"

    def __init__(self, call: Call, name: str, limit: int) -> None:
        self._call = call
        tag = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        # in braces: all of a queue lies in one slot of a cluster
        self._keys = [META_PREFIX + b"{queue1:" + tag.encode() + b"}"]
        self._limit = limit

    def _run(self, script: Script, *values: Any) -> Any:
        return self._call(script, self._keys, values)

    def offer(self, hints: Sequence[Hint], now: int) -> int:
        dropped = 0
        for start in range(0, len(hints), _AT_ONCE):
            values = [v for hint in hints[start : start + _AT_ONCE] for v in (hint.id.hex(), _as_text(hint))]
            dropped += int(self._run(_OFFER, now, self._limit, *values))
        return dropped

    def claim(self, views: Sequence[str], limit: int, now: int, lease: int) -> list[Claim]:
        token = uuid.uuid4().hex
        found = self._run(_CLAIM, now, max(1, lease // 1_000), limit, token, *views) if views else []
        items = [json.loads(text) for text in found]
        return [Claim(_as_hint(item), int(item["tries"]), token) for item in items]

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        values = [(o.claim.hint.id.hex(), o.claim.token, o.fate.value, o.until, o.error) for o in outcomes]
        self._settle(values)

    def _settle(self, values: Sequence[tuple[str, str, str, int, str]]) -> None:
        for start in range(0, len(values), _AT_ONCE):
            self._run(_SETTLE, self._limit, *[v for row in values[start : start + _AT_ONCE] for v in row])

    def dead(self, limit: int) -> list[DeadLetter]:
        found = self._run(_DEAD, limit)
        letters = []
        for text, died_at in zip(found[::2], found[1::2], strict=True):
            item = json.loads(text)
            letters.append(DeadLetter(_as_hint(item), int(item["tries"]), int(float(died_at)), item["error"]))
        return letters

    def replay(self, views: Sequence[str], now: int) -> int:
        return int(self._run(_REPLAY, now, *views))

    def forget(self, view: str, gone: Callable[[str, bytes], bool]) -> int:
        cursor: Any = b"0"
        forgotten: set[str] = set()
        while True:
            cursor, found = self._run(_SCAN, cursor)
            for name, text in zip(found[::2], found[1::2], strict=True):
                hint = _as_hint(json.loads(text))
                if hint.view == view and gone(hint.version, hint.key):
                    forgotten.add(name.decode())
            if cursor == b"0":
                break
        self._settle([(name, "", Fate.DONE.value, 0, "") for name in forgotten])
        return len(forgotten)

    def counts(self, now: int) -> QueueCounts:
        waiting, claimed, resting, dead, oldest = self._run(_COUNTS, now)
        return QueueCounts(max(0, waiting), claimed, resting, dead, int(oldest) if oldest else None)


def _as_text(hint: Hint) -> str:
    """A hint as JSON; times as text, for Lua's JSON writes 14 digits of a number."""
    return json.dumps(
        {
            "view": hint.view,
            "version": hint.version,
            "key": hint.key.hex(),
            "event": str(hint.event),
            "sla": str(hint.sla),
            "asked_at": str(hint.asked_at),
            "asked": hint.asked,
            "tries": 0,
            "token": "",
            "entry": "",
            "error": "",
        }
    )


def _as_hint(item: dict[str, Any]) -> Hint:
    return Hint(
        item["view"],
        item["version"],
        bytes.fromhex(item["key"]),
        int(item["event"]),
        int(item["sla"]),
        int(item["asked_at"]),
        int(item["asked"]),
    )
