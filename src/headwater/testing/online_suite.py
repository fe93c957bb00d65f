"""The conformance suite of online stores: bytes, guard and atomicity, and reads through the real codec."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.clock import MIN_MICROS, to_micros
from headwater.compute.reading.async_reads import async_reads
from headwater.errors import FormatError, Unavailable
from headwater.online import powers
from headwater.online.base import OnlineStore, PutOutcome
from headwater.online.powers import LeveledReads
from headwater.online.rows.codec import CODEC_VERSION, MAGIC, header, replaced, sequence_of
from headwater.online.rows.keys import META_PREFIX
from headwater.testing import rounds
from headwater.testing.online_rows import (
    PLAIN_ROWS,
    Order,
    batch_of,
    deleted,
    first_codec,
    key_of,
    order_of,
    plain_row,
    plain_rows,
    push_view,
    rows_of,
    through_of,
    tombstone_position,
)
from headwater.testing.read_suite import OnlineReadSuite
from headwater.testing.refill_suite import OnlineRefillSuite
from headwater.testing.signatures import differing_signatures
from headwater.testing.window_row_suite import OnlineWindowRowSuite
from headwater.testing.window_suite import OnlineWindowSuite
from headwater.types import Bytes, ConsistencyLevel, Int64, String

EXAMPLES = settings(
    max_examples=rounds(16),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.differing_executors],
)

_TIMES = st.integers(-2, 3)
_ORDERS = st.one_of(
    st.builds(Order, _TIMES, _TIMES, st.just(0), st.just(0)),
    st.builds(Order, _TIMES, _TIMES, st.just(1), st.integers(0, 3)),
)
SUPERSEDED, APPLIED, TIE = PutOutcome.SUPERSEDED, PutOutcome.APPLIED, PutOutcome.TIE
_STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"),
            st.lists(st.tuples(st.integers(0, 2), _ORDERS, st.sampled_from(["a", "b"])), min_size=1, max_size=5),
        ),
        st.tuples(st.just("delete"), st.tuples(st.integers(0, 2), _TIMES, st.integers(0, 3))),
        st.tuples(st.just("remove"), st.integers(0, 2)),
    ),
    max_size=12,
)


class OnlineStoreSuite(OnlineReadSuite, OnlineRefillSuite, OnlineWindowRowSuite, OnlineWindowSuite):
    """Subclass it, give the fixture `store`, and say how to reach its bytes past it.

    `raw_get` and `raw_set` go around the store's own methods: what it writes is checked apart from what it reads.
    How a store runs out of room is its vendor's affair: a store that has a disk or a limit needs a test of its own that
    a put without room raises `StorageFull` and loses nothing that was acknowledged.

    Attributes:
        many: how many rows the larger tests write; a slow emulator may take fewer.
        asked: how many keys the largest read with decoding asks for (the store alone is asked for 10,000).
        prompt: whether a row is gone within a second of its expiry; a store that drops it later says False.
    """

    many: ClassVar[int] = 10_000
    prompt: ClassVar[bool] = True

    @pytest.fixture
    def store(self) -> OnlineStore:
        """The store to be proven, empty and open."""
        raise NotImplementedError("give a fixture named `store`")

    def test_methods_are_called_as_the_base_and_the_powers_say(self, store: OnlineStore) -> None:
        protocols = [power for power in vars(powers).values() if getattr(power, "_is_protocol", False)]
        assert differing_signatures(type(store), OnlineStore, *protocols) == []

    def test_what_is_put_is_there_as_it_is(self, store: OnlineStore) -> None:
        key, row = plain_row(1)
        assert store.put([(key, row)]) == [APPLIED]
        assert self.raw_get(store, key) == row

    def test_what_is_there_is_read_as_it_is(self, store: OnlineStore) -> None:
        key, row = plain_row(1)
        for data in (row, b"", b"\0", b"anything", bytes(range(256))):
            self.raw_set(store, key, data)
            assert store.multi_get([key]) == [data]

    def test_rows_of_missing_shuffled_and_repeated_keys_keep_their_places(self, store: OnlineStore) -> None:
        rows = dict(plain_rows([Order(i) for i in range(5)]))
        store.put(rows.items())
        asked = [key_of(n) for n in (3, 99, 0, 3, 4, 0, -1, 3)]
        assert store.multi_get(asked) == [rows.get(key) for key in asked]
        assert store.multi_get([]) == []

    def test_putting_nothing_is_nothing(self, store: OnlineStore) -> None:
        assert store.put([]) == []
        assert list(store.scan(b"")) == []

    def test_ten_thousand_keys_are_written_and_read_at_once(self, store: OnlineStore) -> None:
        rows = plain_rows([Order(i) for i in range(10_000)], text="some text that takes room")
        there = dict(rows[: self.many])
        assert store.put(iter(there.items())) == [APPLIED] * self.many
        asked = [key for key, _ in reversed(rows)]
        assert store.multi_get(asked) == [there.get(key) for key in asked]

    def test_large_rows(self, store: OnlineStore) -> None:
        rows = [plain_row(i, text="x" * size) for i, size in enumerate((0, 1_000, 100_000, 300_000))]
        store.put(rows)
        assert store.multi_get([key for key, _ in rows]) == [row for _, row in rows]

    def test_the_store_grows(self, store: OnlineStore) -> None:
        for start in range(0, self.many, self.many // 4):
            store.put(plain_rows([Order()] * (self.many // 4), start=start, text="x" * 1_000))
        assert all(row is not None for row in store.multi_get([key_of(n) for n in range(0, self.many, 97)]))

    @EXAMPLES
    @given(steps=_STEPS)
    def test_the_guard_holds(self, store: OnlineStore, steps: list[Any]) -> None:
        store.delete([key_of(n) for n in range(3)])
        stored: dict[int, tuple[Order, str] | None] = {}
        marks: dict[int, tuple[int, int]] = {}
        sequences: set[int] = set()
        for step, given_ in steps:
            if step == "put":
                rows = [plain_row(number, order, text) for number, order, text in given_]
                assert store.put(rows) == [self._put(stored, marks, *row) for row in given_]
            elif step == "delete":
                number, through, position = given_
                deleted(store, number, through, position)
                before, (d, p) = stored.get(number), marks.get(number, (MIN_MICROS, 0))
                marks[number] = max(through, d), max(position, p)
                if before is not None and self._hidden(before[0], marks[number]):
                    stored[number] = None
            else:
                store.delete([key_of(given_)])
                stored.pop(given_, None), marks.pop(given_, None)
        found = store.multi_get([key_of(n) for n in range(3)])
        assert [order_of(row) for row in found] == [s[0] if (s := stored.get(n)) else None for n in range(3)]
        assert [
            row is None or (s := stored.get(n)) is None or row.endswith(s[1].encode()) for n, row in enumerate(found)
        ]
        assert [(through_of(row), tombstone_position(row)) for row in found] == [
            marks.get(n, (MIN_MICROS, 0)) for n in range(3)
        ]
        for row in found:
            assert row is None or sequence_of(row) not in sequences
            sequences.add(sequence_of(row))

    @staticmethod
    def _hidden(order: Order, mark: tuple[int, int]) -> bool:
        return order.known_at <= mark[0] or 0 < order.position <= mark[1]

    @classmethod
    def _put(
        cls,
        stored: dict[int, tuple[Order, str] | None],
        marks: dict[int, tuple[int, int]],
        number: int,
        order: Order,
        text: str,
    ) -> PutOutcome:
        before = stored.get(number)
        if cls._hidden(order, marks.get(number, (MIN_MICROS, 0))) or (before is not None and order < before[0]):
            return SUPERSEDED
        if before is not None and order == before[0] and order.origin == 0:
            return APPLIED if before[1] == text else TIE
        stored[number] = order, text
        return APPLIED

    def test_late_equal_and_repeated_puts(self, store: OnlineStore) -> None:
        key, row = plain_row(1, Order(5, 5), "first")
        rows = [(key, row), (key, row), plain_row(1, Order(5, 4)), plain_row(1, Order(4, 9))]
        assert store.put(rows) == [APPLIED, APPLIED, SUPERSEDED, SUPERSEDED]
        assert store.put([plain_row(1, Order(5, 5), "again")]) == [TIE]
        assert store.multi_get([key])[0] is not None and order_of(store.multi_get([key])[0]) == Order(5, 5)
        assert store.put([plain_row(1, Order(5, 5), "first")]) == [APPLIED]
        logged = [plain_row(1, Order(5, 5, 1, 7), text) for text in ("of the log", "repaired")]
        assert store.put(logged) == [APPLIED, APPLIED]
        (found,) = store.multi_get([key])
        assert found is not None and found.endswith(b"repaired")

    def test_every_put_and_delete_has_a_sequence_of_its_own(self, store: OnlineStore) -> None:
        seen = [sequence_of(store.multi_get([key_of(1)])[0])]
        for event in range(1, 30):
            store.put([plain_row(1, Order(event))])
            seen.append(sequence_of(store.multi_get([key_of(1)])[0]))
            deleted(store, 1, event - 1, event)
            seen.append(sequence_of(store.multi_get([key_of(1)])[0]))
        assert seen[0] == 0 and len(set(seen)) == len(seen)

    def test_many_rows_are_compared_and_put_at_once_each_for_itself(self, store: OnlineStore) -> None:
        rows = [plain_row(i, Order(9)) for i in range(300)]
        store.put(rows[::2])
        mark = META_PREFIX + b"swaps"
        changes = [
            (key, sequence_of(row) if i % 2 == 0 else i % 4 - 1, replaced(row, plain_row(i, Order(1))[1]))
            for i, (key, row) in enumerate(rows)
        ]
        done = store.compare_and_put_all(changes, high_water=(mark, 7))
        # of those that were not there the sequence is 0, or another one
        assert done == [i % 4 != 3 for i in range(300)]
        found = store.multi_get([key for key, _ in rows])
        assert found == [row if swapped else None for (_, _, row), swapped in zip(changes, done, strict=True)]
        assert store.multi_get([mark]) == [(7).to_bytes(8, "big")]
        assert store.compare_and_put_all([]) == []

    def test_compare_and_put_wants_the_stored_sequence(self, store: OnlineStore) -> None:
        key, row = plain_row(1, Order(9))
        assert not store.compare_and_put(key, 1, row)
        assert store.multi_get([key]) == [None]
        assert store.compare_and_put(key, 0, row)
        assert not store.compare_and_put(key, 0, row)
        older = replaced(row, plain_row(1, Order(1))[1])
        assert store.compare_and_put(key, sequence_of(row), older)
        assert store.multi_get([key]) == [older]
        assert not store.compare_and_put(key, sequence_of(row), None)
        assert store.compare_and_put(key, sequence_of(older), None)
        assert store.multi_get([key]) == [None]

    def test_a_delete_keeps_its_time_and_position_in_the_row(self, store: OnlineStore) -> None:
        key, _ = plain_row(1, Order(5, 5))
        store.put([plain_row(1, Order(5, 5))])
        deleted(store, 1, 10, 7)
        late = [Order(6, 10), Order(10, 3), Order(50, 50, 1, 7), Order(9, 9, 1, 8), Order(9, 9, 1, 0)]
        assert store.put([plain_row(1, order) for order in late]) == [SUPERSEDED] * 5
        assert store.put([plain_row(1, Order(2, 11))]) == [APPLIED]
        assert store.put([plain_row(1, Order(2, 11, 1, 8)), plain_row(1, Order(11, 2, 1, 0))]) == [APPLIED] * 2
        told = header(store.multi_get([key])[0])
        assert told is not None
        assert (told.through, told.deleted_position, told.event, told.emptied) == (10, 7, 11, False)

    @pytest.mark.parametrize("deleted_at", [None, 9])
    def test_rows_of_the_first_codec_are_compared_as_they_are(self, store: OnlineStore, deleted_at: int | None) -> None:
        key, row = plain_row(1, Order(5, 6, 1, 7), "old")
        old = first_codec(row, deleted_at)
        self.raw_set(store, key, old)
        assert header(old) == header(store.multi_get([key])[0])
        below = [Order(5, 5, 1, 9), Order(4, 9), Order(5, 6, 1, 6)]
        assert store.put([plain_row(1, order) for order in below]) == [SUPERSEDED] * 3
        assert self.raw_get(store, key) == old
        after = Order(5, 6, 1, 8) if deleted_at is None else Order(5, 10, 1, 3)
        if deleted_at is not None:
            assert store.put([plain_row(1, Order(5, 9, 1, 99))]) == [SUPERSEDED]
        assert store.put([plain_row(1, after, "new")]) == [APPLIED]
        told = header(store.multi_get([key])[0])
        assert told is not None
        assert (told.through, told.deleted_position) == (MIN_MICROS if deleted_at is None else deleted_at, 0)
        assert order_of(store.multi_get([key])[0]) == after
        self.raw_set(store, key, old)
        assert not store.compare_and_put(key, 12, None)
        assert store.compare_and_put(key, sequence_of(old), replaced(old, row))
        assert through_of(store.multi_get([key])[0]) == (MIN_MICROS if deleted_at is None else deleted_at)

    def test_a_source_row_of_the_first_codec_ties(self, store: OnlineStore) -> None:
        key, row = plain_row(1, Order(5, 6), "old")
        self.raw_set(store, key, first_codec(row))
        assert store.put([(key, row), plain_row(1, Order(5, 6), "another")]) == [APPLIED, TIE]

    def test_what_comes_too_late_is_not_applied(self, store: OnlineStore) -> None:
        now = to_micros(store.clock())
        late, key = now - 1_000_000, key_of(1)
        with pytest.raises(Unavailable):
            store.put([plain_row(1)], until=late)
        with pytest.raises(Unavailable):
            store.compare_and_put(key, 0, plain_row(1)[1], until=late)
        assert store.multi_get([key]) == [None]
        assert store.put([plain_row(1)], until=now + 60_000_000) == [APPLIED]
        assert store.compare_and_put(key, sequence_of(store.multi_get([key])[0]), None, until=now + 60_000_000)

    def test_the_high_water_mark_is_the_greatest_that_was_put(self, store: OnlineStore) -> None:
        mark = META_PREFIX + b"greatest"

        def told() -> int | None:
            (data,) = store.multi_get([mark])
            return None if data is None else int.from_bytes(data, "big")

        assert told() is None
        store.put(plain_rows([Order(1)] * 300), high_water=(mark, 7))
        assert told() == 7
        store.put([plain_row(1, Order(2))], high_water=(mark, 5))
        assert told() == 7
        assert store.put([plain_row(1, Order(0))], high_water=(mark, 300)) == [SUPERSEDED]
        assert not store.compare_and_put(key_of(1), 12, None, high_water=(mark, 2**40))
        assert told() == 2**40
        assert store.put_meta({META_PREFIX + b"other": b"x"}, high_water=(mark, 2**55))
        assert told() == 2**55
        assert len(list(store.scan(PLAIN_ROWS.prefix))) == 300

    def test_meta_is_written_where_all_is_as_expected(self, store: OnlineStore) -> None:
        one, two, token = META_PREFIX + b"one", META_PREFIX + b"two", META_PREFIX + b"token"
        assert store.put_meta({one: b"1", two: b"2"})
        assert store.multi_get([one, two]) == [b"1", b"2"]
        assert not store.put_meta({one: b"3"}, expected={two: b"other"})
        assert not store.put_meta({one: b"3"}, expected={META_PREFIX + b"none": b"x"})
        assert not store.put_meta({one: b"3", two: None}, expected={one: None})
        assert store.put_meta({one: b"3", two: None}, expected={one: b"1", META_PREFIX + b"none": None})
        assert store.multi_get([one, two]) == [b"3", None]
        epoch = store.epoch(token)
        assert epoch and store.epoch(token) == epoch
        assert store.put_meta({one: b"4"}, epoch=(token, epoch))
        (data,) = store.multi_get([token])
        assert store.put_meta({token: b"another token"}, expected={token: data})
        assert not store.put_meta({one: b"5"}, epoch=(token, epoch))
        assert store.epoch(token) != epoch
        store.delete([token])
        assert store.epoch(token) not in (epoch, b"another token")
        assert not store.put_meta({one: b"5"}, epoch=(token, epoch))
        assert store.multi_get([one]) == [b"4"]

    def test_one_of_many_gives_the_token(self, store: OnlineStore) -> None:
        token = META_PREFIX + b"token"
        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(lambda _: store.epoch(token), range(16)))) == 1

    def test_removing_keys(self, store: OnlineStore) -> None:
        store.put(plain_rows([Order()] * 3))
        store.delete([key_of(0), key_of(99), key_of(0), key_of(2)])
        assert [row is None for row in store.multi_get([key_of(n) for n in range(3)])] == [True, False, True]

    def test_a_scan_gives_every_key_of_a_prefix(self, store: OnlineStore) -> None:
        rows = dict(plain_rows([Order(i) for i in range(300)]))
        store.put(rows.items())
        for key in (b"\xff", b"\xff\xff", b"\xff\xff\x01", b"\xfe\xff", b"\xfe"):
            self.raw_set(store, key, b"x" + key)
        assert dict(store.scan(PLAIN_ROWS.prefix)) == rows
        assert dict(store.scan(b"\xff\xff")) == {key: b"x" + key for key in (b"\xff\xff", b"\xff\xff\x01")}
        assert set(dict(store.scan(b"\xfe\xff"))) == {b"\xfe\xff"}
        assert len(list(store.scan(b""))) == 305
        assert list(store.scan(b"nothing here")) == []

    def test_rows_may_change_under_a_scan(self, store: OnlineStore) -> None:
        count = self.many // 20
        store.put(plain_rows([Order()] * count))
        seen = set()
        for i, (key, row) in enumerate(store.scan(PLAIN_ROWS.prefix)):
            assert header(row) is not None
            seen.add(key)
            if i % (count // 5) == 0:
                store.put(plain_rows([Order(i)] * (count + count // 5)))
                store.delete([key])
        assert {key_of(n) for n in range(count)} - seen == set()

    def test_versions_and_views_lie_side_by_side(self, store: OnlineStore) -> None:
        views = [
            push_view(name, {"id": Int64}, {"x": Int64}, version=v) for name in ("a", "b") for v in ("1.0.0", "1.0.1")
        ]
        spaces = [rows_of(view) for view in views]
        for n, (view, space) in enumerate(zip(views, spaces, strict=True)):
            store.put(space.encode(batch_of(view, [{"id": 1, "x": n}])))
        assert [len(list(store.scan(space.prefix))) for space in spaces] == [1, 1, 1, 1]
        store.delete(key for key, _ in store.scan(spaces[0].prefix))
        assert [len(list(store.scan(space.prefix))) for space in spaces] == [0, 1, 1, 1]

    def test_keys_of_any_text_and_bytes_do_not_collide(self, store: OnlineStore) -> None:
        parts = ["", "a", "ab", "b", "a|b", "\0", "é", "\U0001f600", "x" * 600, "x" * 601]
        view = push_view("texts", {"left": String, "right": String}, {"x": String})
        raw = push_view("raws", {"left": Bytes, "right": Bytes}, {"x": String})
        texts = [{"left": a, "right": b, "x": a + "/" + b} for a in parts for b in parts]
        bytes_ = [{"left": row["left"].encode(), "right": row["right"].encode(), "x": row["x"]} for row in texts]
        for space, rows in ((rows_of(view), batch_of(view, texts)), (rows_of(raw), batch_of(raw, bytes_))):
            pairs = space.encode(rows)
            assert len({key for key, _ in pairs}) == len(texts)
            assert store.put(pairs) == [APPLIED] * len(pairs)
            assert store.multi_get([key for key, _ in pairs]) == [row for _, row in pairs]
            assert dict(store.scan(space.prefix)) == dict(pairs)

    @pytest.mark.parametrize("foreign", [b"", b"\0", b"not a row", bytes(200)])
    def test_a_put_makes_foreign_bytes_whole(self, store: OnlineStore, foreign: bytes) -> None:
        key, row = plain_row(1)
        self.raw_set(store, key, foreign)
        assert store.put([(key, row)]) == [APPLIED]
        assert store.multi_get([key]) == [row]
        self.raw_set(store, key, foreign)
        assert store.compare_and_put(key, 0, row)

    def test_rows_of_a_newer_codec_are_left_alone(self, store: OnlineStore) -> None:
        key, row = plain_row(1)
        newer = bytes([MAGIC | (CODEC_VERSION + 1)]) + row[1:]
        self.raw_set(store, key, newer)
        with pytest.raises(FormatError):
            store.put([plain_row(1, Order(99))])
        # to this codec it is no row: neither a row nor a removal may take its place
        for sequence in (0, 1, sequence_of(row)):
            for other in (plain_row(1, Order(99))[1], None):
                with pytest.raises(FormatError, match="newer headwater"):
                    store.compare_and_put(key, sequence, other)
        with pytest.raises(FormatError, match="newer headwater"):
            store.compare_and_put_all([(key_of(2), 0, plain_row(2)[1]), (key, 0, row)])
        assert self.raw_get(store, key) == newer

    def test_threads_that_write_the_same_keys_leave_the_greatest(self, store: OnlineStore) -> None:
        writers, keys = 50, 10
        orders = [[Order((n * 7 + key) % 23, n) for key in range(keys)] for n in range(writers)]
        with ThreadPoolExecutor(16) as pool:
            applied = list(pool.map(lambda mine: store.put(plain_rows(mine)), orders))
        found = store.multi_get([key_of(n) for n in range(keys)])
        assert [order_of(row) for row in found] == [max(mine[key] for mine in orders) for key in range(keys)]
        assert all(any(done[key] is APPLIED for done in applied) for key in range(keys))

    def test_compare_and_put_loses_no_update(self, store: OnlineStore) -> None:
        key = key_of(1)

        def add(_: int) -> None:
            while True:
                (row,) = store.multi_get([key])
                told = header(row)
                event = told.event + 1 if told is not None else 1
                if store.compare_and_put(key, sequence_of(row), replaced(row, plain_row(1, Order(event))[1])):
                    return

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(add, range(100)))
        assert order_of(store.multi_get([key])[0]) == Order(100)

    def test_a_reader_beside_a_writer_sees_whole_rows_that_never_go_back(self, store: OnlineStore) -> None:
        keys = [key_of(n) for n in range(self.many // 200)]
        done = threading.Event()

        def write() -> None:
            for event in range(40):
                store.put(plain_rows([Order(event)] * len(keys), text=f"{event}" * (event + 1)))
            done.set()

        _beside(write, lambda: self._read_forwards(store, keys, done))

    @staticmethod
    def _read_forwards(store: OnlineStore, keys: list[bytes], done: threading.Event) -> None:
        last = [-1] * len(keys)
        while not done.is_set():
            for i, row in enumerate(store.multi_get(keys)):
                told = header(row)
                if row is None or told is None:
                    continue
                assert told.event >= last[i]
                assert row.endswith(f"{told.event}".encode() * (told.event + 1))
                last[i] = told.event

    def test_every_level_and_an_event_loop_read_the_same(self, store: OnlineStore) -> None:
        rows = dict(plain_rows([Order(i) for i in range(130)]))
        store.put(rows.items())
        asked = [*reversed(rows), key_of(-1), key_of(3), key_of(3)]

        async def read() -> list[Sequence[bytes | None]]:
            reads = async_reads(store)
            try:
                levels = [await reads.read(asked, level, {}) for level in store.capabilities.levels]
                return [await reads.multi_get(asked), await reads.multi_get([]), *(found.rows for found in levels)]
            finally:
                await reads.close()

        found, nothing, *others = asyncio.run(read())
        assert (found, nothing) == ([rows.get(key) for key in asked], [])
        if isinstance(store, LeveledReads):
            others += [store.read(asked, level, {}).rows for level in store.capabilities.levels]
        assert all(other == found for other in others)

    def test_only_rows_without_a_tombstone_and_put_so_expire(self, store: OnlineStore) -> None:
        if not store.capabilities.expiry:
            return
        rows = plain_rows([Order(1)] * 3)
        keys = [key for key, _ in rows]
        store.put(rows, expires_in=3_600)
        deleted(store, 1, 5)
        store.put([rows[0]])
        store.put([plain_row(1, Order(9))], expires_in=1)
        store.put([plain_row(2, Order(2))], expires_in=3_600)
        store.put([plain_row(3, Order(2))], expires_in=1)
        time.sleep(1.5)
        assert [row is None for row in store.multi_get([*keys, key_of(3)])] == [False, False, False, self.prompt]

    def test_it_says_what_it_is(self, store: OnlineStore) -> None:
        store.put(plain_rows([Order()] * 3))
        assert {"kind", "place", "entries"} <= set(store.info())
        assert store.info()["entries"] == 3
        assert ConsistencyLevel.EVENTUAL in store.capabilities.levels

    def test_closing_twice_is_nothing(self, store: OnlineStore) -> None:
        store.close()
        store.close()


def _beside(work: Callable[[], None], watch: Callable[[], None]) -> None:
    """Run two functions in two threads; what either raises is raised."""
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(work), pool.submit(watch)]:
            future.result(timeout=120)
