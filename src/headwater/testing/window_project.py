"""A window view in a real store, its log and source read back, and what brute force says of them."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.clock import duration_micros, to_micros
from headwater.compute.windows.driving import fill_records
from headwater.compute.windows.history import WindowHistory
from headwater.compute.windows.shown import shown
from headwater.definitions.aggregation import Aggregation
from headwater.definitions.entity import Entity
from headwater.definitions.sources import ParquetSource, PushSource
from headwater.definitions.view import FeatureView
from headwater.offline.base import POSITION, THROUGH
from headwater.online.base import OnlineStore
from headwater.online.meta import fill_record_key
from headwater.online.rows.encoder import RowEncoder
from headwater.online.rows.windows.codec import decode_row
from headwater.online.rows.windows.reading import holds_from, read_row
from headwater.online.rows.windows.row import NEVER, WindowRow
from headwater.planning.resolve import whole_view
from headwater.planning.resolved import ResolvedView
from headwater.planning.windows.events import WindowEvent
from headwater.store import FeatureStore
from headwater.testing.oracle import Delete, LogRow, OracleView, SourceRow
from headwater.testing.window_oracle import WindowRequest, statements, window_answer
from headwater.testing.window_rows import counted
from headwater.types import Int64, String

BEGIN = datetime(2026, 6, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
US = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [("k", pa.string()), ("at", US), ("seen", US), ("id", pa.string()), ("n", pa.int64()), ("kind", pa.string())]
)
THING = Entity("thing", join_keys={"k": String})
AGGREGATIONS = [
    Aggregation("n", "sum", "30m", name="sum_30m"),
    Aggregation("n", "sum", None, name="sum_ever"),
    Aggregation(None, "count", "2h", name="count_2h"),
    Aggregation("n", "last_n", None, n=500, name="each"),
    Aggregation("n", "max", "2h", offset="30m", name="max_before"),
    Aggregation("n", "count", None, where="kind = 'a'", name="of_a"),
]
MICROS = 60_000_000
REQUESTS = [
    WindowRequest("sum", "n", Int64, 30 * MICROS, 5 * MICROS),
    WindowRequest("sum", "n", Int64, None),
    WindowRequest("count", None, None, 120 * MICROS, 5 * MICROS),
    WindowRequest("last_n", "n", Int64, None, n=500),
    WindowRequest("max", "n", Int64, 120 * MICROS, 5 * MICROS, 30 * MICROS),
    WindowRequest("count", "n", Int64, None, where=lambda row: row["kind"] is not None and row["kind"] == "a"),
]
KEYS = ("a", "b", "c")


def window_view(source: Any, **options: Any) -> FeatureView:
    """The view, of any source."""
    return FeatureView("v", entity=THING, source=source, features=AGGREGATIONS, **options)


def push() -> PushSource:
    """A source that is written alone."""
    columns = {"id": String, "n": Int64, "kind": String}
    return PushSource(event_time="at", created_time="seen", event_id="id", schema=columns)


class WindowProject:
    """A project with one window view.

    Args:
        folder: of the project.
        online: the store.
        files: whether it has a source of files, beside what is written.
    """

    def __init__(self, folder: Path, online: OnlineStore, *, files: bool = False) -> None:
        self.folder, self.online, self.files = folder, online, files
        self.clock = BEGIN
        self.sourced: list[dict[str, Any]] = []
        self.written = 0
        (folder / "source").mkdir(parents=True, exist_ok=True)
        (folder / "headwater.toml").write_text('project = "windows"\n')
        if files:
            self.grow_source([])
        self.store = self.open()
        self.store.apply([THING, self.definition()])

    @classmethod
    def again(cls, folder: Path, online: OnlineStore, clock: datetime, *, files: bool = False) -> WindowProject:
        """The same project from another process."""
        made = cls.__new__(cls)
        made.folder, made.online, made.files, made.clock = folder, online, files, clock
        made.sourced, made.written = [], 1
        made.store = made.open()
        return made

    def definition(self, **options: Any) -> FeatureView:
        """The view."""
        if not self.files:
            return window_view(push(), **options)
        source = ParquetSource(str(self.folder / "source"), event_time="at", created_time="seen", event_id="id")
        return window_view(source, **options)

    def open(self) -> FeatureStore:
        """The project's store, on the clock that a test moves."""
        return FeatureStore(self.folder, online=self.online, clock=lambda: self.clock)

    def grow_source(self, rows: list[dict[str, Any]]) -> None:
        """One more file of the source."""
        self.sourced += rows
        self.written += 1
        beside = self.folder / "new.parquet"
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), beside)
        os.utime(beside, ns=(self.written * 10**9, self.written * 10**9))
        beside.replace(self.folder / "source" / f"{self.written}.parquet")

    def view(self, version: str = "1.0.0") -> ResolvedView:
        """A version, whole."""
        record = self.store.context.registry.refresh().view("v")
        return whole_view(record, record.version(version))

    def row(self, key: str, version: str = "1.0.0") -> WindowRow | None:
        """What a read shows of a key; None: the version is not filled."""
        view = self.view(version)
        assert view.windows is not None
        (stored,) = RowEncoder(self.store.context.project, view).stored_keys(pa.table({"k": [key]}))
        assert stored is not None
        (data,) = self.online.multi_get([stored])
        record = fill_records(self.store.context, [("v", version)])["v", version]
        row = None if data is None else decode_row(view.windows, data)
        return shown(view.windows, record, row)

    def lose_record(self) -> None:
        """Let the store lose what says how far the rows are complete."""
        self.online.delete([fill_record_key(self.store.context.project, "v", "1.0.0")])

    # what is right

    def answers(self, key: str, at: int) -> list[Any]:
        """What brute force says to a key at an instant (microseconds), from the log and the source as stored."""
        log, deletes = self.logged()
        source = [
            SourceRow(
                (r["k"],), {"n": r["n"], "kind": r["kind"], "id": r["id"]}, _nanos(r["at"]), _nanos(r["seen"]), r["id"]
            )
            for r in self.sourced
        ]
        view = OracleView({"n": None, "kind": None, "id": None}, created_time=True)
        rows = statements(view, source, log, "id")
        return [window_answer(request, rows, deletes, (key,), at).value for request in REQUESTS]

    def logged(self) -> tuple[list[LogRow], list[Delete]]:
        """The rows and the deletes of the log."""
        part = self.store.context.log.slice("v", ["k"])
        rows: list[LogRow] = []
        for each in part.parts:
            table = pa.concat_tables([pq.read_table(f) for f in each.files]) if each.files else each.table
            assert table is not None
            for r in table.to_pylist():
                values = {"n": r["n"], "kind": r["kind"], "id": r.get("id")}
                created = None if r.get("seen") is None else _nanos(r["seen"])
                row = LogRow((r["k"],), values, _nanos(r["at"]), r["__arrival"], r[POSITION], created)
                rows.append(row)
        told = [] if part.deletes is None else part.deletes.to_pylist()
        deletes = [Delete((r["k"],), r[THROUGH], r[POSITION]) for r in told]
        if part.digests is not None:
            every = zip(KEYS, part.digests(pa.table({"k": list(KEYS)})), strict=True)
            purged = [(key, mark) for key, digests in every for d in digests for mark in part.purges.get(d, ())]
            deletes += [Delete((key,), through, position) for key, (position, through) in purged]
        return rows, deletes

    def problems(self, version: str = "1.0.0") -> list[str]:
        """What is wrong with rows by their own headers: each has what the log and the source have for them."""
        view, context = self.view(version), self.store.context
        layout, tolerance = view.windows, duration_micros(context.settings.tolerance)
        assert layout is not None
        (each,) = (feature.list for feature in layout.features if feature.name == "each")
        history = WindowHistory(context, view)
        stored = dict(self.online.scan(RowEncoder(self.store.context.project, view).prefix))
        log = history.batches(sorted(stored), 0, context.log.head_position())
        wrong = []
        for key, data in stored.items():
            row, batches = decode_row(layout, data), log.get(key, [])
            deletes = [(b.position, b.delete) for b in batches if b.delete is not None and _covers(row, b.position)]
            position, through = (max(part) for part in zip(*deletes, strict=True)) if deletes else (0, NEVER)
            if (row.delete_position, row.deleted_through) != (position, through):
                wrong.append(f"{key!r}: header")
            events = []
            for batch in batches:
                until = max(batch.arrival + tolerance, row.known_through)
                if _covers(row, batch.position):
                    events += [e for e in batch.events if e.known_at <= until and not _hides(row, e)]
            states = row.lists[each].states
            held = sorted(entry.value for entry in states[0]) if states else []
            wanted = sorted(e.values["n"] for e in counted(events) if e.values["n"] is not None)
            if not row.rebuild and held != wanted:
                wrong.append(f"{key!r}: has {held}, not {wanted}")
        return wrong

    def check(self, version: str = "1.0.0") -> int:
        """Compare all keys with brute force; how many could be."""
        layout, compared = self.view(version).windows, 0
        assert layout is not None
        names = [f"v@{version}:{each.feature_name}" for each in AGGREGATIONS]
        read = self.store.get_online_features(names, list(KEYS)).to_dict()
        for i, key in enumerate(KEYS):
            row = self.row(key, version)
            assert row is not None, "not filled"
            assert not row.rebuild
            # the log's clock may be some microseconds ahead
            at = max(to_micros(self.clock), min(holds_from(row), to_micros(self.clock) + 1_000))
            if holds_from(row) > at:
                continue
            values = [value.value for value in read_row(layout, row, at)]
            assert values[: len(REQUESTS)] == self.answers(key, at), (key, row)
            found = [read[each.feature_name][i] for each in AGGREGATIONS]
            assert [tuple(v) if isinstance(v, list) else v for v in found] == values[: len(REQUESTS)], (key, found)
            compared += 1
        return compared


def _covers(row: WindowRow, position: int) -> bool:
    return position <= row.applied_through or position in row.listed


def _hides(row: WindowRow, event: WindowEvent) -> bool:
    return event.known_at <= row.deleted_through or event.position < row.delete_position


def _nanos(at: datetime) -> int:
    return to_micros(at) * 1_000


class RandomSteps:
    """Random writes, deletes, files and runs.

    Args:
        project: what they are done to.
        seed: of the random numbers.
    """

    def __init__(self, project: WindowProject, seed: int) -> None:
        self.project, self.random = project, random.Random(seed)
        self._number = 0
        self._times: dict[str, Any] = {}

    def row(self) -> dict[str, Any]:
        """A row to write, or of the source: late, on time or in the future, some with an id that others have too."""
        r, clock = self.random, self.project.clock
        self._number += 1
        key, at = r.choice(KEYS), clock + r.choice([-200, -90, -31, -30, -5, -1, 0, 0, 20]) * MINUTE
        name = f"{key}{r.randrange(8)}" if r.random() < 0.5 else None
        if name is not None:
            at = self._times.setdefault(name, at)
        seen = max(at, clock + r.choice([-40, -3, 0, 0, 7]) * MINUTE)
        kind = r.choice(["a", "b", None])
        return {"k": key, "at": at, "seen": seen, "id": name, "n": r.choice([self._number, None]), "kind": kind}

    def step(self) -> None:
        """Do one thing."""
        project, r = self.project, self.random
        project.clock += r.choice([0, 0, 1, 5, 30]) * MINUTE
        what = r.random()
        if what < 0.5:
            rows = [self.row() for _ in range(r.choice([1, 1, 3, 8]))]
            if r.random() < 0.4:
                rows = [{name: value for name, value in row.items() if name != "seen"} for row in rows]
            report = project.store.write("v", rows)
            assert report.applied + report.future == len(rows)
        elif what < 0.6:
            project.store.delete("v", [r.choice(KEYS)])
        elif what < 0.7 and project.files:
            project.grow_source([self.row() for _ in range(r.choice([1, 4]))])
        elif what < 0.72:
            project.lose_record()
        elif what < 0.78:
            project.store.materialize(force=True)
        elif what < 0.84:
            project.store.materialize(entities=[r.choice(KEYS)])
        else:
            project.store.materialize()


def steps_agree(project: WindowProject, seed: int, count: int) -> int:
    """Do random steps, comparing with brute force after runs and at the end; how many keys were compared."""
    steps, compared = RandomSteps(project, seed), 0
    for _ in range(count):
        steps.step()
        if steps.random.random() < 0.2:
            project.store.materialize()
            compared += project.check()
    project.clock += 60 * MINUTE
    project.store.materialize()
    return compared + project.check()
