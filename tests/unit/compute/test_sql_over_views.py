"""SQL over views against a reference in plain Python: late rows, deletes and ties, in several shapes of queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.testing import RANDOM, rounds

START = datetime(2026, 3, 1, 22, tzinfo=UTC)
HOUR = timedelta(hours=1)
LAST = 24
place = hw.Entity("place", join_keys={"k": hw.Int64})


def at(hour: int) -> datetime:
    """An instant by its number of hours."""
    return START + hour * HOUR


@dataclass(frozen=True)
class Row:
    """A row of a view: key, value, event time and created time in hours."""

    k: int
    event: int
    created: int
    x: int

    @property
    def known(self) -> int:
        return max(self.event, self.created)


@dataclass(frozen=True)
class Written:
    """A row of the log: written before the delete, or after it."""

    row: Row
    late: bool


@dataclass(frozen=True)
class Case:
    """The rows of both views, and the key that is deleted of the first at hour 10."""

    temps: Sequence[Row]
    written: Sequence[Written]
    calls: Sequence[Row]
    deleted: int | None = None
    purged: bool = False


DELETED_AT = 10
rows = st.builds(Row, st.integers(1, 2), st.integers(0, 6), st.integers(0, 12), st.integers(0, 3))
cases = st.builds(
    Case,
    st.lists(rows, max_size=4),
    st.lists(st.builds(Written, rows, st.booleans()), max_size=4),
    st.lists(rows, max_size=4),
    st.sampled_from([None, None, 1, 2]),
    st.booleans(),
)


def temps_of(case: Case) -> list[Row]:
    """All rows of `temps` that a delete does not hide."""
    found = [row for row in case.temps if row.k != case.deleted or row.known > DELETED_AT]
    for written in case.written:
        hidden = written.row.k == case.deleted and (not written.late or written.row.known <= DELETED_AT)
        found += [] if hidden else [written.row]
    return found


# shapes: a query, and the rows (key, event, created, z) that it gives


def _day(hour: int) -> datetime:
    return at(hour).replace(hour=0)


Out = tuple[int, datetime, datetime, float]


def projection(temps: list[Row], calls: list[Row]) -> Iterator[Out]:
    return ((r.k, at(r.event), at(r.known), r.x * 2) for r in temps)


def filtered(temps: list[Row], calls: list[Row]) -> Iterator[Out]:
    return ((r.k, at(r.event), at(r.known + 1), r.x) for r in temps if r.x > 1)


def both(temps: list[Row], calls: list[Row]) -> Iterator[Out]:
    return ((r.k, at(r.event), at(r.known), r.x) for r in [*temps, *calls])


def point_in_time(temps: list[Row], calls: list[Row]) -> Iterator[Out]:
    """Each call with the newest temperature by event time, known time and value."""
    for c in calls:
        fit = [t for t in temps if t.k == c.k and t.event <= c.event]
        t = max(fit, key=lambda t: (t.event, t.known, t.x), default=None)
        known = c.known if t is None else max(c.known, t.known)
        yield c.k, at(c.event), at(known), c.x * 10 + (0 if t is None else t.x)


def by_day(temps: list[Row], calls: list[Row]) -> Iterator[Out]:
    groups: dict[tuple[int, datetime], list[Row]] = {}
    for r in temps:
        groups.setdefault((r.k, _day(r.event)), []).append(r)
    for (k, day), some in groups.items():
        known = max(max(at(r.known) for r in some), day)
        yield k, day + timedelta(days=1), known, sum(r.x for r in some)


def running(temps: list[Row], calls: list[Row]) -> Iterator[Out]:
    for r in temps:
        seen = [o for o in temps if o.k == r.k and o.event <= r.event]
        yield r.k, at(r.event), at(max(o.known for o in seen)), sum(o.x for o in seen)


SHAPES: dict[str, tuple[str, Callable[[list[Row], list[Row]], Iterator[Out]]]] = {
    "projection": ("SELECT k, event_time, known_at, x * 2 AS z FROM temps", projection),
    "filter": (
        "SELECT k, event_time, known_at + INTERVAL 1 HOUR AS known_at, x AS z FROM temps WHERE x > 1",
        filtered,
    ),
    "union": (
        "SELECT k, event_time, known_at, x AS z FROM temps UNION ALL SELECT k, event_time, known_at, y FROM calls",
        both,
    ),
    "join": (
        """WITH pairs AS (
            SELECT c.k, c.event_time, GREATEST(c.known_at, t.known_at) AS known_at, c.y, t.x,
                   c.known_at AS c_known, t.event_time AS t_event, t.known_at AS t_known
            FROM (SELECT k, event_time, known_at, y FROM calls) c
            LEFT JOIN temps t ON t.k = c.k AND t.event_time <= c.event_time
        )
        SELECT DISTINCT ON (k, event_time, y, c_known) k, event_time, known_at, y * 10 + coalesce(x, 0) AS z, y, c_known
        FROM pairs ORDER BY k, event_time, y, c_known, t_event DESC, t_known DESC, x DESC, known_at""",
        point_in_time,
    ),
    "day": (
        "SELECT k, date_trunc('day', event_time) + INTERVAL 1 DAY AS event_time, max(known_at) AS known_at, sum(x) AS "
        "z FROM temps GROUP BY k, date_trunc('day', event_time)",
        by_day,
    ),
    "window": (
        "SELECT k, event_time, max(known_at) OVER w AS known_at, sum(x) OVER w AS z FROM temps "
        "WINDOW w AS (PARTITION BY k ORDER BY event_time)",
        running,
    ),
}
GROWING = ("projection", "filter", "union")
"""Shapes whose rows stay as they are when others become known."""


def newest(out: Sequence[Out], k: int, t: datetime, *, as_known: bool = True) -> float | None:
    """What history has of a key at an instant."""
    seen = [row for row in out if row[0] == k and row[1] <= t and (not as_known or max(row[1], row[2]) <= t)]
    return max(seen, key=lambda row: (row[1], row[2], row[3]))[3] if seen else None


# the store


@dataclass
class World:
    """A store with both views, and a view over them for each shape."""

    case: Case
    shapes: Sequence[str]
    now: list[int] = field(default_factory=lambda: [0])

    def open(self) -> hw.FeatureStore:
        table = pa.Table.from_pylist(
            [{"k": r.k, "t": at(r.event), "c": at(r.created), "x": r.x} for r in self.case.temps], schema=SCHEMA
        )
        source = hw.TableSource(table, event_time="t", created_time="c")
        temps = hw.FeatureView("temps", entity=place, source=source, features=[hw.Feature("x", hw.Int64)])
        pushed = hw.PushSource(event_time="t", created_time="c")
        calls = hw.FeatureView("calls", entity=place, source=pushed, features=[hw.Feature("y", hw.Int64, column="x")])
        tables = {"temps": temps, "calls": calls}
        made = [
            hw.FeatureView(
                shape,
                entity=place,
                source=hw.SQLSource(SHAPES[shape][0], tables=tables, event_time="event_time", created_time="known_at"),
                features=[hw.Feature("z", hw.Int64)],
            )
            for shape in self.shapes
        ]
        return hw.FeatureStore.in_memory(made, clock=lambda: at(self.now[0]))

    def write(self, store: hw.FeatureStore, view: str, rows: Sequence[Row]) -> None:
        if rows:
            store.write(view, [{"k": r.k, "t": at(r.event), "c": at(r.created), "x": r.x} for r in rows])

    def before(self, store: hw.FeatureStore) -> None:
        self.now[0] = DELETED_AT
        self.write(store, "temps", [w.row for w in self.case.written if not w.late])
        self.write(store, "calls", self.case.calls[:2])
        if self.case.deleted is not None:
            store.delete("temps", [self.case.deleted], purge=self.case.purged)

    def after(self, store: hw.FeatureStore) -> None:
        self.now[0] = LAST
        self.write(store, "temps", [w.row for w in self.case.written if w.late])
        self.write(store, "calls", self.case.calls[2:])

    def expected(self, shape: str) -> list[Out]:
        return list(SHAPES[shape][1](temps_of(self.case), list(self.case.calls)))

    def check_online(self, store: hw.FeatureStore) -> None:
        names = [f"{shape}:z" for shape in self.shapes]
        online = store.get_online_features(names, {"k": [1, 2, 3]}, full_names=True).to_dict()
        for shape in self.shapes:
            out = self.expected(shape)
            assert online[f"{shape}__z"] == [newest(out, k, at(LAST)) for k in (1, 2, 3)], shape


SCHEMA = pa.schema(
    [("k", pa.int64()), ("t", pa.timestamp("us", "UTC")), ("c", pa.timestamp("us", "UTC")), ("x", pa.int64())]
)
SPINE = [{"k": k, "timestamp": at(t)} for k in (1, 2, 3) for t in (0, 2, 4, 6, 9, 11, 13, LAST)]


@settings(max_examples=rounds(6, simplest=False), deadline=None)
@given(case=cases, as_known=st.booleans(), _=RANDOM)
def test_history_is_that_of_the_reference(case: Case, as_known: bool, _: int) -> None:
    world = World(case, list(SHAPES))
    with world.open() as store:
        world.before(store)
        world.after(store)
        names = [f"{shape}:z" for shape in SHAPES]
        found = store.get_historical_features(SPINE, names, as_known=as_known, full_names=True).to_pylist()
        for shape in SHAPES:
            out = world.expected(shape)
            wanted = [newest(out, row["k"], row["timestamp"], as_known=as_known) for row in SPINE]
            assert [row[f"{shape}__z"] for row in found] == wanted, shape


@settings(max_examples=rounds(2, simplest=False), deadline=None)
@given(case=cases, _=RANDOM)
def test_a_forced_run_makes_the_store_equal_to_the_reference(case: Case, _: int) -> None:
    world = World(case, ["join", "day", "window"])
    with world.open() as store:
        world.before(store)
        store.materialize()
        world.after(store)
        store.materialize(force=True)
        world.check_online(store)


@settings(max_examples=rounds(5, simplest=False), deadline=None)
@given(case=cases.filter(lambda case: case.deleted is None), _=RANDOM)
def test_runs_take_what_became_known_through_upstream(case: Case, _: int) -> None:
    world = World(case, GROWING)
    with world.open() as store:
        world.before(store)
        store.materialize()
        world.after(store)
        store.materialize()
        world.check_online(store)


def test_a_log_that_is_compacted_is_read_as_before(tmp_path: Path) -> None:
    temps = hw.FeatureView(
        "temps",
        entity=place,
        source=hw.PushSource(event_time="t", created_time="c"),
        features=[hw.Feature("x", hw.Int64)],
    )
    query = hw.SQLSource(SHAPES["window"][0], tables={"temps": temps}, event_time="event_time", created_time="known_at")
    mixed = hw.FeatureView("mixed", entity=place, source=query, features=[hw.Feature("z", hw.Int64)])
    rows = [Row(1, 1, 1, 2), Row(1, 3, 3, 3), Row(1, 2, 9, 1), Row(2, 1, 1, 1)]
    (tmp_path / "headwater.toml").write_text('project = "p"\n[online]\nurl = "memory:"\n')
    with hw.FeatureStore(tmp_path, clock=lambda: at(LAST)) as store:
        store.apply([mixed])
        for row in rows:
            store.write("temps", [{"k": row.k, "t": at(row.event), "c": at(row.created), "x": row.x}])
            if row.x == 3:
                store.materialize()  # compacts the log
        assert list((tmp_path / ".headwater" / "log").rglob("*.parquet"))
        out = list(running(rows, []))
        found = store.get_historical_features(SPINE, ["mixed:z"]).to_pylist()
        assert [row["z"] for row in found] == [newest(out, row["k"], row["timestamp"]) for row in SPINE]
        store.materialize()
        assert store.get_online_features(["mixed:z"], [1, 2]).to_dict()["z"] == [
            newest(out, k, at(LAST)) for k in (1, 2)
        ]
