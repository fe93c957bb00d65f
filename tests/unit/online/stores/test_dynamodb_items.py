"""Items hold rows and other bytes as they are."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from headwater.online.codec import HEADER_SIZE, VERSION_BYTE
from headwater.online.stores.dynamodb_items import BUCKETS, Item, bytes_of, item_of, partition, plain
from headwater.testing.online_rows import Order, key_of, plain_row

_BYTES = st.binary(max_size=80)
_ROWS = st.binary(min_size=HEADER_SIZE - 1, max_size=80).map(lambda data: bytes([VERSION_BYTE]) + data)


def _stored(data, expires_at=None):
    return msgspec.json.decode(msgspec.json.encode(item_of(b"key", data, expires_at)), type=Item)


@given(data=_BYTES | _ROWS | st.binary(max_size=60).map(lambda data: bytes([VERSION_BYTE]) + data))
def test_bytes_come_back_as_they_are(data):
    assert bytes_of(_stored(data)) == data


@given(data=_ROWS)
def test_only_a_row_without_a_d_expires(data):
    assert ("t" in item_of(b"key", data, 5)) == (data[14:22] == bytes(8)) == plain(data)


def test_items_of_other_programs_are_bytes_that_no_reader_takes_for_a_row():
    row = plain_row(1, Order(5))[1]
    for name, value in (("s", {"N": "-1"}), ("s", {"N": "1.5"}), ("o", {"B": b"short"}), ("r", {"N": "1"}), ("d", {})):
        item = item_of(b"key", row) | {name: value}
        found = bytes_of(msgspec.json.decode(msgspec.json.encode(item), type=Item))
        assert found == (b"" if name == "r" else row[:6] + row[HEADER_SIZE:])


def test_a_namespace_is_spread_over_its_buckets():
    counts = [0] * BUCKETS
    keys = [key_of(0)[:-8] + number.to_bytes(8, "big") for number in range(3_200)]
    for key in keys:
        counts[partition(key)["B"][-1]] += 1
    assert min(counts) > 50
    assert {partition(keys[0], n)["B"] for n in range(BUCKETS)} == {partition(key)["B"] for key in keys}
