"""Rows as DynamoDB's items, and the conditions by which one may replace another.

    p   B   partition key: the first eight bytes of the key (a view version's namespace) and one of 32 buckets
    k   B   sort key: the key
    r   B   a row: its version, flags and fingerprint, then what follows the header; anything else: its bytes
    o   B   a row's order in 25 bytes: event and created time as the header has them, origin (1), log position (8)
    s   N   a row's write sequence, also of a window version's row, whose other bytes are all in `r`
    d   B   a row's D; not there where it has none
    q   B   a row's P in 8 bytes; not there where it is zero
    t   N   when DynamoDB may drop the item, seconds since 1970

Binary attributes compare as unsigned bytes, so that the guard is one condition. Rows of codec 1 and 2 have the same
attributes, so that each is compared with the other; the flag DELETED is not stored, `d` is. An item without `o` and `s`
is bytes as they are: a meta entry, or what another program wrote.
"""

from __future__ import annotations

import zlib
from typing import Any

import msgspec

from headwater.online.rows.codec import (
    CACHE_ONLY,
    CREATED,
    DELETED,
    EVENT,
    HEADER_SIZE,
    OLD_VERSION_BYTE,
    POSITION,
    SEQUENCE,
    TOMBSTONE,
    VERSION_BYTE,
    WINDOW_VERSION_BYTE,
    fresh_sequence,
    is_row,
    is_window_row,
)
from headwater.online.rows.keys import NAMESPACE_SIZE

BUCKETS = 32
"""Partitions of one namespace: a partition takes about 1,000 writes and 3,000 reads a second."""

Attributes = dict[str, dict[str, Any]]

MAX_ROW_BYTES = 409_000
"""The longest row, under the longest key, that fits into an item's 400 KB (409,600 bytes, names included)."""

_HEAD = SEQUENCE.start
_TIMES = slice(EVENT.start, CREATED.stop)
_LOG_BIT = 0x80
_SHORTEST, _LONGEST = bytes((OLD_VERSION_BYTE,)), bytes((VERSION_BYTE + 1,))
_WINDOW, _BEYOND_WINDOW = bytes((WINDOW_VERSION_BYTE,)), bytes((WINDOW_VERSION_BYTE + 1,))
_OURS = "r >= :v AND r < :w"
_SET = "SET r = :r, o = :o, s = :s"
_LOGGED = f"attribute_not_exists(k) OR ({_OURS} AND o <= :o AND "
_OF_SOURCE = f"attribute_not_exists(k) OR ({_OURS} AND o < :o AND "
_ALIVE = "(attribute_not_exists(d) OR d < :n)"
_ALIVE_LOGGED = "(attribute_not_exists(d) OR (d < :n AND (attribute_not_exists(q) OR q < :p)))"


class Value(msgspec.Struct):
    """An attribute's value: bytes or a number."""

    B: bytes | None = None
    N: str | None = None


class Item(msgspec.Struct):
    """An item as it is read."""

    k: Value | None = None
    r: Value | None = None
    o: Value | None = None
    s: Value | None = None
    d: Value | None = None
    q: Value | None = None


READ = "k, r, o, s, d, q"
"""The attributes that a reader needs."""


def partition(key: bytes, bucket: int | None = None) -> dict[str, bytes]:
    """The partition that a key is in, or another bucket of its namespace."""
    number = zlib.crc32(key) % BUCKETS if bucket is None else bucket
    return {"B": key[:NAMESPACE_SIZE] + bytes((number,))}


def address(key: bytes) -> Attributes:
    """The item's own key."""
    return {"p": partition(key), "k": {"B": key}}


def item_of(key: bytes, data: bytes, expires_at: int | None = None) -> Attributes:
    """The item of a row, or of any other bytes.

    Args:
        key: what it is stored under.
        data: the bytes.
        expires_at: seconds since 1970; a row with a D gets none.
    """
    parts = _parts(data)
    if parts is None:
        return raw_item(key, data)
    item = {**address(key), **parts}
    if expires_at is not None and "d" not in item:
        item["t"] = {"N": str(expires_at)}
    return item


def raw_item(key: bytes, data: bytes) -> Attributes:
    """The item of bytes as they are: a meta entry."""
    return {**address(key), "r": {"B": data}}


def _parts(row: bytes) -> Attributes | None:
    """The attributes of a row of this codec; None for any other bytes."""
    if is_window_row(row):
        return {"r": {"B": row}, "s": {"N": str(int.from_bytes(row[SEQUENCE], "big"))}}
    if not is_row(row) or row[0] != VERSION_BYTE:
        return None
    parts: Attributes = {
        "r": {"B": row[:_HEAD] + row[HEADER_SIZE:]},
        "o": {"B": row[_TIMES] + _wide(row[POSITION])},
        "s": {"N": str(int.from_bytes(row[SEQUENCE], "big"))},
    }
    if row[1] & DELETED:
        through, position = row[TOMBSTONE][:8], row[TOMBSTONE][8:]
        if not position[0] & _LOG_BIT:
            return None  # made by no delete: it would not come back as it is
        parts["r"] = {"B": row[:1] + bytes((row[1] & ~DELETED,)) + row[2:_HEAD] + row[TOMBSTONE.stop :]}
        parts["d"] = {"B": through}
        if any(position[1:]) or position[0] != _LOG_BIT:
            parts["q"] = {"B": _wide(position)[1:]}
    return parts


def _wide(position: bytes) -> bytes:
    """The seven bytes of a log position in a header as nine: the origin, and eight that compare like the number."""
    return bytes((position[0] >> 7, 0, position[0] & ~_LOG_BIT)) + position[1:]


def bytes_of(item: Item) -> bytes:
    """The row of an item, of the codec that wrote it, or the bytes it holds as they are.

    Of an item that has some attributes of a row and not all, or others, what is given is too short for a row.
    """
    rest = b"" if item.r is None or item.r.B is None else item.r.B
    if item.o is None and (item.s is None or is_window_row(rest)):
        return rest
    try:
        found: Any = item
        order, number = found.o.B, int(found.s.N)
        head, deleted = rest[:_HEAD], b""
        if len(order) != 25 or len(head) < _HEAD:
            return head
        if rest[0] == OLD_VERSION_BYTE:
            through = bytes(8) if item.d is None else _sized(item.d.B)
            return b"".join((head, number.to_bytes(8, "big"), through, order, rest[_HEAD:]))
        if item.d is not None:
            head = rest[:1] + bytes((rest[1] | DELETED,)) + rest[2:_HEAD]
            position = bytes(8) if item.q is None else _sized(item.q.B)
            deleted = _sized(item.d.B) + _FIRST[b"\1" + position[:2]] + position[2:]
        if rest[0] != VERSION_BYTE or (item.q is not None and not deleted):
            return rest[:_HEAD]
        first = _FIRST[order[16:19]]
        sequence = number.to_bytes(6, "big")
        return b"".join((head, sequence, order[:16], first, order[19:], deleted, rest[_HEAD:]))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return rest[:_HEAD]


def _sized(number: bytes | None) -> bytes:
    if number is None or len(number) != 8:
        raise ValueError
    return number


_FIRST = {bytes((origin, 0, byte)): bytes((byte | origin << 7,)) for byte in range(128) for origin in (0, 1)}
"""Origin and the first two of the eight bytes of a log position → the first of the seven in a header."""


def plain(row: bytes) -> bool:
    """Whether a row can be put by one condition alone: it is of this codec and has no D of its own."""
    return len(row) >= HEADER_SIZE and row[0] == VERSION_BYTE and not row[1] & DELETED


def resequenced(row: bytes) -> bytes:
    """The same row with another write sequence."""
    return row[: SEQUENCE.start] + fresh_sequence() + row[SEQUENCE.stop :]


def guarded(key: bytes, row: bytes, expires_at: int | None) -> dict[str, Any]:
    """An update that is `guard.merge` where what is stored is an older row, or none; it fails, and tells, where not.

    A row of the log takes the place of one with the same order; a source row does not, since the two may differ.

    Args:
        key: what the row is stored under.
        row: a `plain` one.
        expires_at: seconds since 1970; then it fails too where the stored row has a D.
    """
    parts = _parts(row)
    assert parts is not None
    values: Attributes = {f":{name}": value for name, value in parts.items()}
    values |= {":v": {"B": _SHORTEST}, ":w": {"B": _LONGEST}}
    tail = row[POSITION]
    if expires_at is not None:
        values[":t"] = {"N": str(expires_at)}
        update, alive = f"{_SET}, t = :t", "attribute_not_exists(d)"
    else:
        values[":n"] = {"B": max(row[EVENT], row[CREATED])}
        update, alive = f"{_SET} REMOVE t", _ALIVE
        if tail > CACHE_ONLY:
            values[":p"] = {"B": _wide(tail)[1:]}
            alive = _ALIVE_LOGGED
    return {
        "Key": address(key),
        "UpdateExpression": update,
        "ConditionExpression": (_LOGGED if tail >= CACHE_ONLY else _OF_SOURCE) + alive + ")",
        "ExpressionAttributeValues": values,
    }


def at_least(key: bytes, number: int) -> dict[str, Any]:
    """An update of a meta entry to a number (8 bytes, big-endian) greater than the one stored; where not it fails."""
    return {
        "Key": address(key),
        "UpdateExpression": "SET r = :n",
        "ConditionExpression": "attribute_not_exists(r) OR size(r) <> :z OR r < :n",
        "ExpressionAttributeValues": {":n": {"B": number.to_bytes(8, "big")}, ":z": {"N": "8"}},
    }


def holds(data: bytes | None) -> dict[str, Any]:
    """The condition that a meta entry is these bytes; None: that nothing is there."""
    if data is None:
        return {"ConditionExpression": "attribute_not_exists(k)"}
    values = {":e": {"B": data}}
    return {"ConditionExpression": "r = :e AND attribute_not_exists(o)", "ExpressionAttributeValues": values}


def at_sequence(sequence: int) -> dict[str, Any]:
    """The condition that a row of this sequence is stored; 0: that nothing is."""
    if not sequence:
        return {"ConditionExpression": "attribute_not_exists(k)"}
    values = {":s": {"N": str(sequence)}, ":v": {"B": _SHORTEST}, ":w": {"B": _LONGEST}}
    values |= {":x": {"B": _WINDOW}, ":y": {"B": _BEYOND_WINDOW}}
    condition = f"s = :s AND (({_OURS}) OR (r >= :x AND r < :y))"
    return {"ConditionExpression": condition, "ExpressionAttributeValues": values}


def unchanged(seen: Item | None) -> dict[str, Any]:
    """The condition that what is stored is what was seen."""
    if seen is None:
        return {"ConditionExpression": "attribute_not_exists(k)"}
    terms, values = ["attribute_exists(k)"], Attributes()
    for name in ("r", "o", "s", "d", "q"):
        value = getattr(seen, name)
        if value is None:
            terms.append(f"attribute_not_exists({name})")
        elif value.B is None and value.N is None:
            terms.append(f"attribute_exists({name})")
        else:
            terms.append(f"{name} = :{name}")
            values[f":{name}"] = {"B": value.B} if value.B is not None else {"N": value.N}
    condition: dict[str, Any] = {"ConditionExpression": " AND ".join(terms)}
    return {**condition, "ExpressionAttributeValues": values} if values else condition
