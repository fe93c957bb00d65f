"""The guard in Redis against the guard in Python, byte for byte, over rows of every codec and bytes of none."""

import struct

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from headwater.errors import FormatError
from headwater.online.base import PutOutcome
from headwater.online.guard import merge
from headwater.online.rows.codec import (
    DELETED,
    EMPTIED,
    KEYED,
    MAGIC,
    MAX_POSITION,
    OLD_VERSION_BYTE,
    SIGN,
    VERSION_BYTE,
    sequence_of,
)
from headwater.online.stores.redis.store import RedisOnlineStore
from headwater.testing import rounds

pytest_plugins = ["tests.servers.redis"]
KEY, LEAST = b"a key", -SIGN
EXAMPLES = settings(
    max_examples=rounds(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def store(redis_server):
    redis_server.client.flushall()
    store = RedisOnlineStore(redis_server.url)
    yield store
    store.close()


def flipped(micros):
    return micros + SIGN


def current_row(event, created, log, position, mark, body, flags=0, tombstone=None, sequence=b"\1\2\3\4\5\6"):
    head = bytes((VERSION_BYTE, flags | (DELETED if tombstone else 0))) + mark + sequence
    tail = (position | (1 << 55 if log else 0)).to_bytes(7, "big")
    row = head + struct.pack(">QQ", flipped(event), flipped(created)) + tail
    if tombstone:
        row += struct.pack(">Q", flipped(tombstone[0])) + (tombstone[1] | 1 << 55).to_bytes(7, "big")
    return row + body


def old_row(event, created, log, position, mark, body, flags=0, through=None, sequence=9):
    numbers = sequence, 0 if through is None else flipped(through), flipped(event), flipped(created)
    return struct.pack(">BB4sQQQQBQ", OLD_VERSION_BYTE, flags, mark, *numbers, log, position) + body


# a few instants near each other, and those whose halves or bytes differ in one place alone
instants = st.one_of(
    st.integers(-2, 2),
    st.sampled_from(
        [LEAST, LEAST + 1, SIGN - 1, -(1 << 32), (1 << 32) - 1, 1 << 32, (1 << 32) + 1, 1 << 53, (1 << 53) + 1]
    ),
)
positions = st.one_of(
    st.integers(0, 3), st.sampled_from([(1 << 24) - 1, 1 << 24, 1 << 32, (1 << 53) + 1, MAX_POSITION])
)
marks, bodies = st.sampled_from([b"abcd", b"abce"]), st.sampled_from([b"", b"x", b"y", b"\0\xff"])
flags = st.sampled_from([0, 0, 0, EMPTIED, KEYED, EMPTIED | KEYED])
orders = st.one_of(st.tuples(st.just(0), st.just(0)), st.tuples(st.just(1), positions))


@st.composite
def new_rows(draw):
    log, position = draw(orders)
    return current_row(
        draw(instants), draw(instants), log, position, draw(marks), draw(bodies), draw(flags), None, b"newrow"
    )


@st.composite
def stored_rows(draw):
    log, position = draw(orders)
    fields = draw(instants), draw(instants), log, position, draw(marks), draw(bodies), draw(flags)
    if draw(st.booleans()):
        through = draw(st.one_of(st.none(), instants))
        return old_row(*fields, None if through == LEAST else through)
    return current_row(*fields, draw(st.one_of(st.none(), st.tuples(instants, positions))))


anything = st.one_of(
    st.none(),
    stored_rows(),
    stored_rows().flatmap(lambda row: st.integers(0, len(row)).map(lambda size: row[:size])),
    st.binary(max_size=60),
    st.tuples(st.sampled_from(range(MAGIC, MAGIC + 16)), st.binary(max_size=60)).map(lambda t: bytes(t[:1]) + t[1]),
)


@EXAMPLES
@example(None, current_row(0, 0, 0, 0, b"abcd", b""))
@example(current_row(1, 1, 1, 5, b"abcd", b"", 0, (9, 7)), current_row(2, 2, 1, 8, b"abcd", b"new"))
@given(anything, new_rows())
def test_a_put_does_what_the_guard_says(store, redis_server, stored, new):
    redis_server.client.delete(KEY)
    if stored is not None:
        redis_server.client.set(KEY, stored)
    try:
        expected = merge(stored, new)
    except FormatError:
        with pytest.raises(FormatError):
            store.put([(KEY, new)])
        assert redis_server.client.get(KEY) == stored
        return
    outcomes = store.put([(KEY, new)])
    if isinstance(expected, bytes):
        assert (outcomes, redis_server.client.get(KEY)) == ([PutOutcome.APPLIED], expected)
    else:
        assert (outcomes, redis_server.client.get(KEY)) == ([expected], stored)


@EXAMPLES
@given(anything, st.lists(new_rows(), min_size=2, max_size=5))
def test_rows_of_one_key_in_one_put_are_put_in_their_order(store, redis_server, stored, rows):
    redis_server.client.delete(KEY)
    if stored is not None:
        redis_server.client.set(KEY, stored)
    expected, now = [], stored
    try:
        for row in rows:
            merged = merge(now, row)
            now, outcome = (merged, PutOutcome.APPLIED) if isinstance(merged, bytes) else (now, merged)
            expected.append(outcome)
    except FormatError:
        return
    assert store.put([(KEY, row) for row in rows]) == expected
    assert redis_server.client.get(KEY) == now


@EXAMPLES
@given(anything)
def test_the_sequence_that_is_compared_is_the_codec_s(store, redis_server, stored):
    redis_server.client.delete(KEY)
    if stored is not None:
        redis_server.client.set(KEY, stored)
    sequence = sequence_of(stored)
    try:
        assert not store.compare_and_put(KEY, sequence ^ 1, b"other")
    except FormatError:
        # a newer codec's: it is left as it is, whatever is compared
        with pytest.raises(FormatError):
            store.compare_and_put(KEY, sequence, b"other")
        assert redis_server.client.get(KEY) == stored
        return
    assert redis_server.client.get(KEY) == stored
    assert store.compare_and_put(KEY, sequence, b"other")
    assert redis_server.client.get(KEY) == b"other"
