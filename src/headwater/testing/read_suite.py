"""The conformance suite of online reads: what was put through the real codec comes back with its status."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.clock import from_micros
from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.sources import PushSource
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.online.base import OnlineStore
from headwater.online.reading.reader import AHEAD, ANY_TIME, OnlineReader
from headwater.online.reading.result import OnlineResult
from headwater.online.rows.codec import emptied, sequence_of
from headwater.planning.resolve import resolve
from headwater.planning.snapshot import RegistrySnapshot, ViewRecord
from headwater.testing import SCALE, rounds
from headwater.testing.cases import plain
from headwater.testing.online_rows import PROJECT, Order, batch_of, push_view, registered, rows_of
from headwater.testing.pools import DTYPES, KEYS
from headwater.testing.strategies import values
from headwater.types import DType, Float64, Int64, StalePolicy, Status, String

EXAMPLES = settings(
    max_examples=rounds(16),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.differing_executors],
)

SECOND = 1_000_000
NOW = 1_710_028_800_000_000

_DAMAGES = ["empty", "header", "half", "cut", "foreign", "newer", "layout", "long"]
_DAMAGED = [(damage, (1, 30)[n % 2]) for n, damage in enumerate(_DAMAGES)]
"""Kinds of damage, each beside one of two numbers of rows; in a longer search beside both."""
if SCALE > 1:
    _DAMAGED = [(damage, others) for damage in _DAMAGES for others in (1, 30)]

_EVERY = {f"f{i}": dtype for i, dtype in enumerate(DTYPES)}
_ALL = push_view("every", {"id": Int64}, _EVERY)
_ROW = st.fixed_dictionaries({name: values(dtype) for name, dtype in _EVERY.items()})
_PLAIN = push_view("plain", {"id": Int64}, {"x": Float64, "text": String})


def read(
    store: OnlineStore,
    selections: Sequence[FeatureView | FeatureSelection],
    entities: Any,
    *,
    now: int = NOW,
    **options: Any,
) -> OnlineResult:
    """Read features of views as a prepared reader does."""
    records = {}
    for item in selections:
        view = item.view if isinstance(item, FeatureSelection) else item
        assert isinstance(view, FeatureView)
        version = registered(view)
        records[version.view.name] = ViewRecord(version.view.name, {version.version: version}, version.version)
    request = resolve(RegistrySnapshot(PROJECT, views=records), list(selections), full_names=len(selections) > 1)
    return OnlineReader(request, store, PROJECT).read(entities, now=now, **options)


def put(store: OnlineStore, view: FeatureView, rows: Sequence[dict[str, Any]], order: Order | None = None) -> None:
    """Put rows of a view, all with one order."""
    store.put(rows_of(view).encode(batch_of(view, rows, [order or Order(NOW, NOW)] * len(rows))))


def same(dtype: DType, found: Any, wanted: Any) -> bool:
    """Whether a value read is the one put; float32 by its 32 bits."""
    if dtype.name == "float32" and isinstance(found, float) and isinstance(wanted, float):
        found, wanted = (struct.unpack("<f", struct.pack("<f", number))[0] for number in (found, wanted))
    return bool(plain(found) == plain(wanted))


class OnlineReadSuite:
    """Part of `OnlineStoreSuite`, which says what a subclass gives."""

    many: ClassVar[int] = 10_000
    asked: ClassVar[int] = 10_000

    def raw_get(self, store: Any, key: bytes) -> bytes | None:
        """The bytes under a key, by the vendor's client."""
        raise NotImplementedError

    def raw_set(self, store: Any, key: bytes, data: bytes) -> None:
        """Set the bytes under a key, by the vendor's client."""
        raise NotImplementedError

    @EXAMPLES
    @given(rows=st.lists(_ROW, min_size=1, max_size=4), copies=st.sampled_from([1, 8]), step=st.integers(1, 3))
    def test_every_dtype_comes_back(
        self, store: OnlineStore, rows: list[dict[str, Any]], copies: int, step: int
    ) -> None:
        rows = [{"id": i, **row} for i, row in enumerate(rows * copies)]
        put(store, _ALL, rows, Order(NOW))
        asked = [row["id"] for row in rows][::-step]
        result = read(store, [_ALL], asked)
        found, statuses = result.to_dict(), result.statuses
        for name, dtype in _EVERY.items():
            wanted = [rows[i][name] for i in asked]
            assert all(map(same, [dtype] * len(asked), found[name], wanted)), (name, found[name], wanted)
            assert statuses[name] == [Status.NULL if value is None else Status.PRESENT for value in wanted]
        assert not result.problems
        assert result.to_arrow().num_rows == len(asked)
        store.delete([key for key, _ in rows_of(_ALL).encode(batch_of(_ALL, rows))])

    @pytest.mark.parametrize("many", [1, 40])
    def test_missing_shuffled_and_repeated_keys_keep_their_places(self, store: OnlineStore, many: int) -> None:
        put(store, _PLAIN, [{"id": i, "x": i / 2, "text": f"t{i}"} for i in range(5)])
        asked = [3, 99, 0, 3, None, 4, 0, -1] * many
        result = read(store, [_PLAIN], asked)
        there = [i is not None and 0 <= i < 5 for i in asked]
        assert result.to_dict() == {
            "id": asked,
            "x": [(i or 0) / 2 if found else None for i, found in zip(asked, there, strict=True)],
            "text": [f"t{i}" if found else None for i, found in zip(asked, there, strict=True)],
        }
        assert result.statuses["x"] == [Status.PRESENT if found else Status.NOT_FOUND for found in there]

    def test_ten_thousand_keys_in_one_read(self, store: OnlineStore) -> None:
        put(store, _PLAIN, [{"id": i, "x": float(i), "text": str(i)} for i in range(self.many)])
        asked = list(range(self.asked - 1, -1, -1))
        assert read(store, [_PLAIN], asked).to_dict() == {
            "id": asked,
            "x": [float(i) if i < self.many else None for i in asked],
            "text": [str(i) if i < self.many else None for i in asked],
        }

    @pytest.mark.parametrize("names", [(name,) for name in KEYS] + [("text", "num"), ("num", "raw", "text"), ()])
    def test_keys_of_every_type(self, store: OnlineStore, names: tuple[str, ...]) -> None:
        view = push_view("keyed", {name: KEYS[name][0] for name in names}, {"x": Int64})
        keys = [()] if not names else [(value,) for value in KEYS[names[0]][1]]
        for name in names[1:]:
            keys = [(*key, value) for key in keys for value in KEYS[name][1]]
        rows = [{**dict(zip(names, key, strict=True)), "x": i} for i, key in enumerate(keys)]
        put(store, view, rows)
        asked = {name: [row[name] for row in rows[::-1]] for name in names}
        found = read(store, [view], asked or None)
        assert found.to_dict()["x"] == ([row["x"] for row in rows[::-1]] if names else [0])

    @pytest.mark.parametrize("many", [1, 20])
    def test_ttl_and_sla_count_their_edges(self, store: OnlineStore, many: int) -> None:
        view = self._aging()
        put(store, view, [{"id": i, "x": 1.0, "y": None} for i in range(many)], Order(NOW, NOW))
        expected = {
            0: (1.0, Status.PRESENT, None, Status.NULL),
            10 * SECOND: (1.0, Status.PRESENT, None, Status.NULL),
            10 * SECOND + 1: (1.0, Status.STALE, None, Status.NULL),
            30 * SECOND: (1.0, Status.STALE, None, Status.NULL),
            30 * SECOND + 1: (-1.0, Status.EXPIRED, -2.0, Status.EXPIRED),
        }
        for age, (x, x_status, y, y_status) in expected.items():
            result = read(store, [view], list(range(many)), now=NOW + age)
            assert result.to_dict() == {"id": list(range(many)), "x": [x] * many, "y": [y] * many}
            assert result.statuses == {"x": [x_status] * many, "y": [y_status] * many}

    @staticmethod
    def _aging() -> FeatureView:
        features = [
            Feature("x", Float64, default=-1.0, freshness_sla="10s"),
            Feature("y", Float64, default=-2.0),
        ]
        return FeatureView(
            "aging",
            entity=Entity("id", {"id": Int64}),
            source=PushSource(event_time="at"),
            features=features,
            version="1.0.0",
            ttl=timedelta(seconds=30),
            freshness_sla=timedelta(seconds=20),
        )

    def test_stale_values_are_dropped_where_asked_and_never_by_the_default(self, store: OnlineStore) -> None:
        put(store, self._aging(), [{"id": 1, "x": 1.0, "y": 2.0}])
        at = NOW + 15 * SECOND
        result = read(store, [self._aging()], [1], now=at, stale=StalePolicy.DROP)
        assert (result.to_dict()["x"], result.to_dict()["y"]) == ([None], [2.0])
        assert (result.statuses["x"], result.statuses["y"]) == ([Status.STALE], [Status.PRESENT])
        aged = read(store, [self._aging()], [1], now=at, max_age=14 * SECOND)
        assert (aged.statuses["x"], aged.statuses["y"]) == ([Status.STALE], [Status.STALE])

    def test_a_read_at_an_instant_before_the_row_was_known_says_so(self, store: OnlineStore) -> None:
        view, known = self._aging(), NOW + 60 * SECOND
        put(store, view, [{"id": 1, "x": 1.0, "y": 2.0}], Order(NOW, known))
        put(store, view, [{"id": 2, "x": 1.0, "y": 2.0}], Order(NOW + 1, NOW + 1))
        for now in (NOW, known - 1):
            early = read(store, [view], [1, 3], now=now)
            assert (early.to_dict()["x"], early.statuses["x"]) == ([None, -1.0], [Status.NOT_KNOWN, Status.NOT_FOUND])
            assert (early.event_times, early.freshness()) == ({"aging": [None, None]}, {"aging": [None, None]})
            assert early.read_at == {"aging": [from_micros(now)] * 2}
            dropped = read(store, [view], [1], now=now, stale=StalePolicy.DROP)
            assert (dropped.to_dict()["x"], dropped.statuses["x"]) == ([None], [Status.NOT_KNOWN])
        assert read(store, [view], [1], now=known).statuses["x"] == [Status.EXPIRED]
        assert read(store, [view], [2]).statuses["x"] == [Status.NOT_KNOWN]
        assert read(store, [view], [2], now=NOW + 1).statuses["x"] == [Status.PRESENT]

    def test_a_row_known_after_the_clock_is_read_at_its_instant(self, store: OnlineStore) -> None:
        view, known = self._aging(), NOW + 60 * SECOND
        put(store, view, [{"id": 1, "x": 1.0, "y": 2.0}], Order(NOW, known))
        put(store, view, [{"id": 2, "x": 1.0, "y": 2.0}], Order(NOW + 1, NOW + 1))
        put(store, view, [{"id": 3, "x": 1.0, "y": 2.0}], Order(NOW, NOW + AHEAD + 1))
        soon = read(store, [view], [1, 2, 3], ahead=AHEAD)
        assert soon.to_dict()["x"] == [-1.0, 1.0, None]
        assert soon.statuses["x"] == [Status.EXPIRED, Status.PRESENT, Status.NOT_KNOWN]
        assert soon.freshness() == {"aging": [None, 1.0, None]}
        assert soon.read_at == {"aging": list(map(from_micros, (known, NOW + 1, NOW)))}
        assert read(store, [view], [3], ahead=ANY_TIME).statuses["x"] == [Status.EXPIRED]

    def test_a_deleted_key_is_not_found_until_something_newer_is_known(self, store: OnlineStore) -> None:
        view = self._aging()
        put(store, view, [{"id": 1, "x": 1.0, "y": 2.0}, {"id": 2, "x": 1.0, "y": 2.0}])
        key, row = next(iter(rows_of(view).encode(batch_of(view, [{"id": 1}]))))
        (row,) = store.multi_get([key])  # type: ignore[assignment]
        assert store.compare_and_put(key, sequence_of(row), emptied(row, NOW + 5))
        result = read(store, [view], [1, 2], now=NOW + 5)
        assert (result.to_dict()["x"], result.statuses["x"]) == ([-1.0, 1.0], [Status.NOT_FOUND, Status.PRESENT])
        before = read(store, [view], [1, 2], now=NOW + 4)
        assert (before.to_dict()["x"], before.statuses["x"]) == ([None, 1.0], [Status.NOT_KNOWN, Status.PRESENT])
        clock = read(store, [view], [1, 2], now=NOW + 4, ahead=AHEAD)
        assert (clock.to_dict()["x"], clock.statuses["x"]) == ([-1.0, 1.0], [Status.NOT_FOUND, Status.PRESENT])
        assert clock.read_at == {"aging": [from_micros(NOW + 5), from_micros(NOW + 4)]}
        put(store, view, [{"id": 1, "x": 3.0}], Order(NOW + 4, NOW + 5))
        assert read(store, [view], [1], now=NOW + 6).statuses["x"] == [Status.NOT_FOUND]
        put(store, view, [{"id": 1, "x": 4.0}], Order(NOW - 9, NOW + 6))
        assert read(store, [view], [1], now=NOW + 6).to_dict()["x"] == [4.0]

    def test_several_views_entities_and_aliases_in_one_read(self, store: OnlineStore) -> None:
        user = push_view("user", {"user": Int64}, {"age": Int64})
        item = push_view("item", {"item": String}, {"price": Float64})
        everywhere = push_view("everywhere", {}, {"rate": Float64})
        put(store, user, [{"user": 7, "age": 40}, {"user": 8, "age": 50}])
        put(store, item, [{"item": f"i{n}", "price": float(n)} for n in range(30)])
        put(store, everywhere, [{"rate": 0.5}])
        items = [f"i{n}" for n in (5, 3, 99, 5, *range(20))]
        friend = user.alias("friend", join_key_map={"user": "friend"})
        asked = {"user": 7, "item": items, "friend": [8, None] * (len(items) // 2)}
        found = read(store, [user, item, everywhere, friend], asked).to_dict()
        assert found["user__age"] == [40] * len(items)
        assert found["item__price"] == [float(name[1:]) if name != "i99" else None for name in items]
        assert found["everywhere__rate"] == [0.5] * len(items)
        assert found["friend__age"] == [50, None] * (len(items) // 2)

    def test_long_keys_are_told_apart(self, store: OnlineStore) -> None:
        view = push_view("long", {"key": String}, {"x": Int64})
        keys = ["x" * size for size in (400, 502, 503, 504, 1_000, 5_000)] + ["y" * 5_000]
        put(store, view, [{"key": key, "x": i} for i, key in enumerate(keys)])
        result = read(store, [view], [*keys, "z" * 5_000])
        assert result.to_dict()["x"] == [*range(len(keys)), None]
        assert not result.problems

    @pytest.mark.parametrize(("damage", "others"), _DAMAGED)
    def test_a_damaged_row_is_named_and_the_rest_is_served(self, store: OnlineStore, damage: str, others: int) -> None:
        put(store, _PLAIN, [{"id": i, "x": 1.0, "text": "some text"} for i in range(others + 1)])
        ((key, _),) = rows_of(_PLAIN).encode(batch_of(_PLAIN, [{"id": 0}]))
        row = self.raw_get(store, key)
        assert row is not None
        damaged = {
            "empty": b"",
            "header": row[:20],
            "half": row[: len(row) // 2],
            "cut": row[:-1],
            "foreign": b"PAR1" + bytes(100),
            "newer": bytes([row[0] + 1]) + row[1:],
            "layout": row[:2] + bytes(4) + row[6:],
            "long": row + b"\0",
        }
        self.raw_set(store, key, damaged[damage])
        result = read(store, [_PLAIN], list(range(others + 1)))
        assert result.statuses["x"] == [Status.UNAVAILABLE] + [Status.PRESENT] * others
        assert result.to_dict()["text"] == [None] + ["some text"] * others
        assert list(result.problems) == [0]
        assert "plain" in result.problems[0]

    def test_versions_side_by_side(self, store: OnlineStore) -> None:
        first = push_view("v", {"id": Int64}, {"x": Float64})
        second = push_view("v", {"id": Int64}, {"x": Float64, "y": Int64}, version="1.1.0")
        put(store, first, [{"id": 1, "x": 1.0}])
        put(store, second, [{"id": 1, "x": 2.0, "y": 3}])
        assert read(store, [first], [1]).to_dict() == {"id": [1], "x": [1.0]}
        assert read(store, [second], [1]).to_dict() == {"id": [1], "x": [2.0], "y": [3]}
