"""Window views of any aggregations: what is served, what history says and brute force are the same."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import headwater as hw
from headwater.clock import from_micros, to_micros
from headwater.offline.base import ARRIVAL, POSITION, THROUGH
from headwater.planning.resolve import resolve
from headwater.planning.resolved import ResolvedView
from headwater.planning.windows.values import stored_form
from headwater.testing import rounds
from headwater.testing.oracle import Delete, LogRow, OracleView, SourceRow
from headwater.testing.window_cases import CONDITIONS, requests_of
from headwater.testing.window_oracle import Statement, WindowAnswer, agrees, statements, window_answer
from headwater.testing.window_strategies import COLUMNS, aggregation_lists
from headwater.types import Status

START = datetime(2024, 3, 10, tzinfo=UTC)
SECOND = 1_000_000
TOLERANCE = 5 * SECOND
US = pa.timestamp("us", tz="UTC")
KEYS = ["a", "é"]
ASKED = [*KEYS, None, "never"]
THING = hw.Entity("thing", join_keys={"k": hw.String})
HOPS = tuple(hop * SECOND for hop in (1, 2, 5, 7, 10))
_OFFSETS = st.sampled_from([-70, -41, -20, -10, -10, -5, 0, 0, 2, 30])
_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "k": st.sampled_from(KEYS),
            "event": _OFFSETS,
            "created": _OFFSETS,
            "number": st.none() | st.integers(1, 4),
            "x": st.none() | st.sampled_from([0.0, -0.0, 1.5, -2.0, float("nan"), 1e18]),
            "n": st.none() | st.integers(-3, 3) | st.just(2**40),
            "i": st.none() | st.integers(-2, 2),
            "s": st.none() | st.text("abé", max_size=2),
            "b": st.none() | st.booleans(),
            "at": st.none() | st.integers(-5, 5).map(from_micros),
            "day": st.none() | st.sampled_from([date(1969, 12, 31), date(2024, 2, 29)]),
            "a": st.none() | st.lists(st.none() | st.integers(0, 1), max_size=2),
        }
    ),
    min_size=1,
    max_size=4,
)


class WindowEquality(RuleBasedStateMachine):
    """A window view over a file that grows, or one that is only written to; its writes, deletes and runs."""

    embedded = False
    online: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.file = Path(self.folder.name) / "events.parquet"
        self.when = START
        self.sourced: list[dict[str, Any]] = []
        self.behind = False
        """Whether rows are in the source or the log that no run has looked at."""
        self.taken = 0
        self.written = 0

    @initialize(
        aggregations=aggregation_lists(COLUMNS, most=4, conditions=tuple(CONDITIONS), hops=HOPS, longest=40 * SECOND),
        ids=st.booleans(),
        files=st.booleans(),
    )
    def begin(self, aggregations: list[hw.Aggregation], ids: bool, files: bool) -> None:
        times = {"event_time": "event", "created_time": "created", "event_id": "number" if ids else None}
        self.ids, self.files = ids, files
        source = hw.ParquetSource(str(self.file), **times) if files else self._pushed(times)
        self.view = hw.FeatureView("v", entity=THING, source=source, features=aggregations)
        self._save()
        self.store = self._open()
        self.store.apply([THING, self.view])
        if files:
            self.behind = True

    @staticmethod
    def _pushed(times: dict[str, Any]) -> hw.PushSource:
        return hw.PushSource(**times, schema={**COLUMNS, "number": hw.Int64})

    def _open(self) -> hw.FeatureStore:
        if self.embedded:
            return hw.FeatureStore(self.folder.name, online=self.online, clock=lambda: self.when)
        return hw.FeatureStore.in_memory([], clock=lambda: self.when)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
        self.folder.cleanup()

    def _save(self) -> None:
        """The source's rows, as a file that is another than before."""
        columns = {name: pa.array([row[name] for row in self.sourced], dtype.arrow) for name, dtype in COLUMNS.items()}
        columns |= {"k": pa.array([row["k"] for row in self.sourced], pa.string())}
        columns |= {name: pa.array([row[name] for row in self.sourced], US) for name in ("event", "created")}
        columns |= {"number": pa.array([row["number"] for row in self.sourced], pa.int64())}
        pq.write_table(pa.table(columns), self.file)
        self.written += 1
        os.utime(self.file, ns=(self.written * 10**9, self.written * 10**9))

    def _pass_time(self, seconds: float = 10) -> None:
        self.when += timedelta(seconds=seconds)

    def _timed(self, row: dict[str, Any]) -> dict[str, Any]:
        times = {name: self.when + timedelta(seconds=row[name]) for name in ("event", "created")}
        # one event has one time: the same id at another is another event
        return {**row, **times, "number": row["number"] if self.ids else None}

    @rule(seconds=st.sampled_from([0, 1, 7, 60]))
    def time_passes(self, seconds: int) -> None:
        self._pass_time(seconds)

    @precondition(lambda self: self.files)
    @rule(rows=_ROWS)
    def the_source_grows(self, rows: list[dict[str, Any]]) -> None:
        self._pass_time()
        self.sourced += [self._timed(row) for row in rows]
        self._save()
        self.behind = True

    @rule(rows=_ROWS, carried=st.booleans(), to=st.sampled_from(["both", "both", "both", "offline"]))
    def write(self, rows: list[dict[str, Any]], carried: bool, to: str) -> None:
        self._pass_time()
        made = [self._timed(row) for row in rows]
        if not carried:
            made = [{name: value for name, value in row.items() if name != "created"} for row in made]
        self.store.write("v", made, to=to)
        self.behind = self.behind or to == "offline"

    @rule(key=st.sampled_from(KEYS))
    def delete(self, key: str) -> None:
        self._pass_time()
        self.store.delete("v", [{"k": key}])

    @rule()
    def materialize(self) -> None:
        self._pass_time()
        report = self.store.materialize()
        assert not report.failed, report
        self.behind, self.taken = False, to_micros(self.when)

    @rule(key=st.sampled_from(KEYS))
    def force(self, key: str) -> None:
        self._pass_time()
        self.store.materialize(["v"], entities=[{"k": key}], force=True)

    @precondition(lambda self: self.embedded)
    @rule()
    def it_is_opened_again(self) -> None:
        self.store.close()
        self.store = self._open()

    # what is right

    def _resolved(self) -> ResolvedView:
        return resolve(self.store.registry.snapshot(), ["v:*"]).views[0]

    def _facts(self) -> tuple[list[Statement], list[Delete]]:
        """All that is in the source, and in the log as it is stored."""
        part = self.store.context.log.slice("v", ["k"])
        log: list[LogRow] = []
        for each in part.parts:
            table = pa.concat_tables([pq.read_table(f) for f in each.files]) if each.files else each.table
            assert table is not None
            for row in table.to_pylist():
                values = {name: row.get(name) for name in (*COLUMNS, "number")}
                created = row.get("created")
                log.append(
                    LogRow(
                        (row["k"],),
                        values,
                        to_micros(row["event"]) * 1_000,
                        row[ARRIVAL],
                        row[POSITION],
                        None if created is None else to_micros(created) * 1_000,
                    )
                )
        source = [
            SourceRow(
                (row["k"],),
                {name: row[name] for name in COLUMNS},
                to_micros(row["event"]) * 1_000,
                to_micros(row["created"]) * 1_000,
                row["number"],
            )
            for row in self.sourced
        ]
        deletes = [] if part.deletes is None else part.deletes.to_pylist()
        self.arrivals = {row.position: row.arrival for row in log}
        columns = dict.fromkeys(self._resolved().view.columns)
        rows = statements(OracleView(columns, created_time=True), source, log, "number" if self.ids else None)
        return rows, [Delete((row["k"],), row[THROUGH], row[POSITION]) for row in deletes]

    def _right(self, rows: Any, deletes: Any, key: str | None, at: int, **options: Any) -> list[WindowAnswer]:
        requests = requests_of(self._resolved())
        return [window_answer(request, rows, deletes, (key,), at, **options) for request in requests]

    def _compare(self, answers: list[WindowAnswer], values: list[Any], statuses: list[Any], where: Any) -> None:
        for feature, right, value, status in zip(self._resolved().features, answers, values, statuses, strict=True):
            assert status == right.status, (where, feature.name, right, value, status)
            stored = stored_form(feature.dtype, value)
            expected = right.value if right.status is not Status.NOT_FOUND else stored_form(feature.dtype, right.value)
            assert agrees(right, stored, times=2) or repr(expected) == repr(stored), (where, feature.name, right, value)

    def _unseen(self, row: Statement, at: int) -> bool:
        """Whether a row is known by now that nothing has put online: by the next run."""
        if not self.taken < row.known_at <= at:
            return False
        return not row.from_log or row.known_at > self.arrivals[row.position] + TOLERANCE

    @invariant()
    def what_is_served_is_right(self) -> None:
        if not hasattr(self, "store") or self.behind:
            return
        rows, deletes = self._facts()
        names = [feature.name for feature in self._resolved().features]
        for later in (None, 0, 13, 100):
            now = None if later is None else self.when + timedelta(seconds=later)
            found = self.store.get_online_features(["v:*"], {"k": ASKED}, now=now)
            assert not found.problems
            values = found.to_dict()
            for i, key in enumerate(ASKED):
                read_at = found.read_at["v"][i]
                at = to_micros(read_at if read_at is not None else self.when)
                statuses = [found.statuses[name][i] for name in names]
                if Status.NOT_KNOWN in statuses:
                    # events or a delete of the key are known later than the instant that was given
                    assert later is not None
                    continue
                if any(row.key == (key,) and self._unseen(row, at) for row in rows):
                    continue
                right = self._right(rows, deletes, key, at)
                self._compare(right, [values[name][i] for name in names], statuses, (key, at, later))

    @rule(back=st.sampled_from([0, 0, 1, 10, 33, 70]), as_known=st.sampled_from([True, True, False]))
    def history_is_right(self, back: int, as_known: bool) -> None:
        rows, deletes = self._facts()
        names = [feature.name for feature in self._resolved().features]
        at = self.when - timedelta(seconds=back)
        spine = pa.table({"k": pa.array(ASKED, pa.string()), "timestamp": pa.array([at] * len(ASKED), US)})
        result = self.store.get_historical_features(spine, ["v:*"], include=("status",), as_known=as_known)
        found = result.to_arrow().to_pydict()
        for i, key in enumerate(ASKED):
            right = self._right(rows, deletes, key, to_micros(at), as_known=as_known)
            statuses = [found[f"{name}__status"][i] for name in names]
            self._compare(right, [found[name][i] for name in names], statuses, (key, back, as_known))


class EmbeddedWindowEquality(WindowEquality):
    """The same on LMDB and files, closed and opened again in between."""

    embedded = True


class RedisWindowEquality(EmbeddedWindowEquality):
    """The same on Redis."""

    server: Any = None

    def _open(self) -> hw.FeatureStore:
        if not hasattr(self, "store"):
            self.server.client.flushall()
        return super()._open()


@pytest.fixture(scope="module", autouse=True)
def _servers(redis_server: Any) -> None:
    RedisWindowEquality.server, RedisWindowEquality.online = redis_server, redis_server.url


def _settings(examples: int, steps: int) -> settings:
    return settings(
        max_examples=rounds(examples),
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


class TestWindowEquality(WindowEquality.TestCase):  # type: ignore[name-defined]
    settings = _settings(8, 12)


class TestEmbeddedWindowEquality(EmbeddedWindowEquality.TestCase):  # type: ignore[name-defined]
    settings = _settings(3, 10)


class TestRedisWindowEquality(RedisWindowEquality.TestCase):  # type: ignore[name-defined]
    settings = _settings(3, 10)
