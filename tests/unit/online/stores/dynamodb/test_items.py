"""Items hold rows and other bytes as they are."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.online.rows.codec import (
    DELETED,
    HEADER_SIZE,
    MAX_POSITION,
    OLD_HEADER_SIZE,
    OLD_VERSION_BYTE,
    TOMBSTONE,
    VERSION_BYTE,
    carrying,
    current,
    is_row,
    tombstone,
)
from headwater.online.rows.keys import LONGEST
from headwater.online.stores.dynamodb.items import BUCKETS, MAX_ROW_BYTES, Item, bytes_of, item_of, partition, plain
from headwater.testing.online_rows import Order, first_codec, key_of, plain_row

_BYTES = st.binary(max_size=80)
_ROWS = st.binary(min_size=HEADER_SIZE - 1, max_size=80).map(lambda data: bytes([VERSION_BYTE]) + data)
_OLD_ROWS = st.binary(min_size=OLD_HEADER_SIZE - 1, max_size=80).map(lambda data: bytes([OLD_VERSION_BYTE]) + data)


def _stored(data, expires_at=None):
    return msgspec.json.decode(msgspec.json.encode(item_of(b"key", data, expires_at)), type=Item)


@given(data=_BYTES | _ROWS | _OLD_ROWS | st.binary(max_size=60).map(lambda data: bytes([VERSION_BYTE]) + data))
def test_bytes_come_back_as_they_are(data):
    assert bytes_of(_stored(data)) == data


@given(data=_ROWS)
def test_only_a_row_without_a_tombstone_expires(data):
    assert plain(data) == (not data[1] & DELETED)
    if plain(data) or (len(data) >= TOMBSTONE.stop and data[43] & 0x80):
        assert ("t" in item_of(b"key", data, 5)) == plain(data)


@settings(deadline=None)
@given(order=st.builds(Order, *[st.integers(-(2**62), 2**62)] * 2, st.just(1), st.integers(0, MAX_POSITION)))
def test_a_row_is_compared_by_attributes_that_both_codecs_have(order):
    row = plain_row(1, order)[1]
    old, item = first_codec(row), item_of(b"key", row)
    assert item["o"]["B"] == old[22:47]
    deleted = item_of(b"key", carrying(row, tombstone(order.event, order.position)))
    assert deleted["d"]["B"] == first_codec(row, order.event)[14:22]
    assert deleted.get("q", {"B": bytes(8)})["B"] == order.position.to_bytes(8, "big")
    first = {**item, "r": {"B": old[:6] + old[47:]}, "s": {"N": str(2**64 - 1)}}
    stored = bytes_of(msgspec.json.decode(msgspec.json.encode(first), type=Item))
    assert stored == old[:6] + bytes([255] * 8) + old[14:]
    assert current(stored)[12:] == row[12:]


def test_items_of_other_programs_are_bytes_that_no_reader_takes_for_a_row():
    row = plain_row(1, Order(5), "some text that is longer than a header")[1]
    others = [("s", {"N": "-1"}), ("s", {"N": "1.5"}), ("s", {"N": str(2**48)}), ("o", {"B": b"short"}), ("d", {})]
    others += [("o", {"B": bytes(16) + b"\2" + bytes(8)}), ("o", {"B": b"\xff" * 25}), ("q", {"B": bytes(8)})]
    for name, value in [*others, ("s", None), ("o", None), ("r", {"N": "1"})]:
        item = item_of(b"key", row) | {name: value}
        item = {attribute: found for attribute, found in item.items() if found is not None}
        found = bytes_of(msgspec.json.decode(msgspec.json.encode(item), type=Item))
        assert found == (b"" if name == "r" else row[:6]) and not is_row(found)


def test_the_largest_row_under_the_longest_key_fits_into_an_item():
    order = Order(5, 6, 1, MAX_POSITION)
    row = plain_row(1, order, "x" * (MAX_ROW_BYTES - len(plain_row(1, order)[1])))[1]
    assert len(row) == MAX_ROW_BYTES
    for item in (item_of(b"x" * LONGEST, row, 10**10), item_of(b"x" * LONGEST, carrying(row, tombstone(3, 9)))):
        # as DynamoDB counts: names, bytes, and up to 21 bytes for a number
        size = sum(len(name) + (len(value["B"]) if "B" in value else 21) for name, value in item.items())
        assert size <= 400 * 1024


def test_a_namespace_is_spread_over_its_buckets():
    counts = [0] * BUCKETS
    keys = [key_of(0)[:-8] + number.to_bytes(8, "big") for number in range(3_200)]
    for key in keys:
        counts[partition(key)["B"][-1]] += 1
    assert min(counts) > 50
    assert {partition(keys[0], n)["B"] for n in range(BUCKETS)} == {partition(key)["B"] for key in keys}
