"""Rows as DynamoDB's items, and the conditions by which one may replace another.

    p   B   partition key: the first eight bytes of the key (a view version's namespace) and one of 32 buckets
    k   B   sort key: the key
    r   B   a row: its version, flags and fingerprint, then what follows the header; anything else: its bytes
    o   B   a row's order: event and created time, origin, log position, as the header has them
    s   N   a row's write sequence
    d   B   a row's D; not there where it is zero
    t   N   when DynamoDB may drop the item, seconds since 1970

Binary attributes compare as unsigned bytes, so that the guard is one condition. An item without `o` and `s` is bytes as
they are: a meta entry, or what another program wrote.
"""

from __future__ import annotations

import zlib
from typing import Any

import msgspec

from headwater.online.codec import (
    CREATED,
    EVENT,
    HEADER_SIZE,
    ORDER,
    SEQUENCE,
    THROUGH,
    VERSION_BYTE,
    ZERO,
    is_row,
)
from headwater.online.keys import NAMESPACE_SIZE

BUCKETS = 32
"""Partitions of one namespace: a partition takes about 1,000 writes and 3,000 reads a second."""

Attributes = dict[str, dict[str, Any]]

_HEAD = SEQUENCE.start
_SHORTEST, _LONGEST = bytes((VERSION_BYTE,)), bytes((VERSION_BYTE + 1,))
_OURS = "r >= :v AND r < :w"
_GUARD = f"attribute_not_exists(k) OR ({_OURS} AND o <= :o AND (attribute_not_exists(d) OR d < :n))"
_GUARD_EXPIRING = f"attribute_not_exists(k) OR ({_OURS} AND o <= :o AND attribute_not_exists(d))"
_SET = "SET r = :r, o = :o, s = if_not_exists(s, :b) + :i"


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


READ = "k, r, o, s, d"
"""The attributes that a reader needs."""


def partition(key: bytes, bucket: int | None = None) -> dict[str, bytes]:
    """The partition that a key lies in, or another bucket of its namespace."""
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
    item = address(key)
    if not is_row(data):
        return {**item, "r": {"B": data}}
    item |= {
        "r": {"B": data[:_HEAD] + data[HEADER_SIZE:]},
        "o": {"B": data[ORDER]},
        "s": {"N": str(int.from_bytes(data[SEQUENCE], "big"))},
    }
    if data[THROUGH] != ZERO:
        item["d"] = {"B": data[THROUGH]}
    elif expires_at is not None:
        item["t"] = {"N": str(expires_at)}
    return item


def bytes_of(item: Item) -> bytes:
    """The row of an item, or the bytes it holds as they are."""
    rest = item.r.B if item.r is not None and item.r.B is not None else b""
    if item.o is None or item.s is None:
        return rest
    order, number, through = item.o.B, item.s.N, ZERO if item.d is None else item.d.B
    if order is None or number is None or through is None or len(rest) < _HEAD:
        return rest
    try:
        sequence = int(number).to_bytes(8, "big")
    except (ValueError, OverflowError):
        return rest
    row = b"".join((rest[:_HEAD], sequence, through, order, rest[_HEAD:]))
    return row if len(row) == len(rest) + HEADER_SIZE - _HEAD else rest


def plain(row: bytes) -> bool:
    """Whether a row can be put by one condition alone: it is none with a D of its own."""
    return is_row(row) and row[THROUGH] == ZERO


def guarded(key: bytes, row: bytes, expires_at: int | None) -> dict[str, Any]:
    """An update that is `guard.merge`, where what is stored is a row; it fails, and tells, where it is not.

    Args:
        key: what the row is stored under.
        row: a `plain` one.
        expires_at: seconds since 1970; then it fails too where the stored row has a D.
    """
    values: Attributes = {
        ":r": {"B": row[:_HEAD] + row[HEADER_SIZE:]},
        ":o": {"B": row[ORDER]},
        ":b": {"N": str(int.from_bytes(row[SEQUENCE], "big") - 1)},
        ":i": {"N": "1"},
        ":v": {"B": _SHORTEST},
        ":w": {"B": _LONGEST},
    }
    if expires_at is None:
        values[":n"] = {"B": max(row[EVENT], row[CREATED])}
        return _update(key, f"{_SET} REMOVE t", _GUARD, values)
    values[":t"] = {"N": str(expires_at)}
    return _update(key, f"{_SET}, t = :t", _GUARD_EXPIRING, values)


def _update(key: bytes, update: str, condition: str, values: Attributes) -> dict[str, Any]:
    return {
        "Key": address(key),
        "UpdateExpression": update,
        "ConditionExpression": condition,
        "ExpressionAttributeValues": values,
    }


def at_sequence(sequence: int) -> dict[str, Any]:
    """The condition that a row of this sequence is stored; 0: that nothing is."""
    if not sequence:
        return {"ConditionExpression": "attribute_not_exists(k)"}
    values = {":s": {"N": str(sequence)}, ":v": {"B": _SHORTEST}, ":w": {"B": _LONGEST}}
    return {"ConditionExpression": f"s = :s AND {_OURS}", "ExpressionAttributeValues": values}


def unchanged(seen: Item | None) -> dict[str, Any]:
    """The condition that what is stored is what was seen."""
    if seen is None:
        return {"ConditionExpression": "attribute_not_exists(k)"}
    terms, values = ["attribute_exists(k)"], Attributes()
    for name in ("r", "o", "s", "d"):
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
