"""The scripts that Redis runs: the guard of `guard.merge` and the compare of `compare_and_put`, atomic in the server.

Lua's numbers are doubles and its order of text follows the server's locale, so header bytes are compared as 32-bit
numbers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from headwater.online.codec import HEADER_SIZE, MAGIC, VERSION_BYTE
from headwater.online.keys import META_PREFIX

MARKERS = META_PREFIX + b"marks"
"""A hash: `s` the number of the last marker, `n` its word, and of the last some thousand number → word.

Each script leaves one behind its rows. Who has seen a marker can tell after a restart, when the server's own ids are
gone, whether what was written before it is there.
"""
KEPT_MARKERS = 8192
NEWER = "HWNEWER"

_MARK = f"""
local function mark(word)
  local n = redis.call('HINCRBY', KEYS[1], 's', 1)
  redis.call('HSET', KEYS[1], 'n', word, n, word)
  redis.call('HDEL', KEYS[1], n - {KEPT_MARKERS})
  return n
end
"""

_PUT = f"""{_MARK}
local count, seconds, word = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local zero, unpack4, pack4, sub, byte = string.rep('\\0', 8), struct.unpack, struct.pack, string.sub, string.byte
local told, plain, kept, fresh, expire = {{}}, {{}}, {{}}, {{}}, {{}}
local stored = count > 0 and redis.call('MGET', unpack(KEYS, 2, count + 1))
for i = 1, count do
  local key, row = KEYS[i + 1], ARGV[i + 3]
  local old = fresh[key]
  if old == nil then old = stored[i] end
  local result, through = row, zero
  if old and #old > 0 then
    local first = byte(old, 1)
    if #old < {HEADER_SIZE} or first ~= {VERSION_BYTE} then
      if first > {VERSION_BYTE} and first <= {MAGIC | 0x0F} then return redis.error_reply('{NEWER}') end
    else
      local a1, a2, a3, a4, a5, a6, a7 = unpack4('>I4I4I4I4BI4I4', old, 23)
      local b1, b2, b3, b4, b5, b6, b7 = unpack4('>I4I4I4I4BI4I4', row, 23)
      local less
      if a1 ~= b1 then less = b1 < a1
      elseif a2 ~= b2 then less = b2 < a2
      elseif a3 ~= b3 then less = b3 < a3
      elseif a4 ~= b4 then less = b4 < a4
      elseif a5 ~= b5 then less = b5 < a5
      elseif a6 ~= b6 then less = b6 < a6
      else less = b7 < a7 end
      if less then
        result = nil
      else
        through = sub(old, 15, 22)
        if through ~= zero then
          local d1, d2 = unpack4('>I4I4', through)
          if (b1 < d1 or (b1 == d1 and b2 <= d2)) and (b3 < d1 or (b3 == d1 and b4 <= d2)) then result = nil end
        end
        if result then
          local s1, s2 = unpack4('>I4I4', old, 7)
          s2 = s2 + 1
          if s2 == 4294967296 then s1, s2 = s1 + 1, 0 end
          result = sub(row, 1, 6) .. pack4('>I4I4', s1, s2) .. through .. sub(row, 23)
        end
      end
    end
  end
  if result then
    told[i] = '1'
    if fresh[key] == nil then kept[#kept + 1] = key end
    fresh[key] = result
    expire[key] = seconds > 0 and through == zero
  else
    told[i] = '0'
  end
end
for i = 1, #kept do
  local key = kept[i]
  if expire[key] then
    redis.call('SET', key, fresh[key], 'EX', seconds)
  else
    plain[#plain + 1] = key
    plain[#plain + 1] = fresh[key]
  end
end
if #plain > 0 then redis.call('MSET', unpack(plain)) end
for i = count + 4, #ARGV do redis.call('SET', KEYS[i - 2], ARGV[i]) end
if word ~= '' then return table.concat(told) .. ':' .. mark(word) end
return table.concat(told)
"""

_COMPARE = f"""{_MARK}
local old, have = redis.call('GET', KEYS[2]), string.rep('\\0', 8)
if old and #old >= {HEADER_SIZE} and string.byte(old, 1) == {VERSION_BYTE} then have = string.sub(old, 7, 14) end
if have ~= ARGV[1] then return 0 end
if #ARGV == 2 then redis.call('DEL', KEYS[2]) else redis.call('SET', KEYS[2], ARGV[3]) end
if ARGV[2] ~= '' then return mark(ARGV[2]) end
return 1
"""


@dataclass(frozen=True)
class Script:
    """A script and the name that a server knows it by."""

    text: bytes

    @property
    def sha(self) -> bytes:
        """The name, once it was loaded."""
        return hashlib.sha1(self.text).hexdigest().encode()


PUT = Script(_PUT.encode())
"""Keys: the markers, the rows', the meta entries'. Values: how many rows, seconds, marker or '', rows, meta.

Tells a 1 for each row that was put, a 0 for each other, then the marker's number behind a colon.
"""
COMPARE = Script(_COMPARE.encode())
"""Keys: the markers, the row's. Values: the sequence (8 bytes), marker or '', the row or nothing to remove it.

Tells 0 where the sequence is another, else the marker's number (1 without one).
"""
