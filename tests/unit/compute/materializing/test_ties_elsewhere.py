"""Ties of runs whose rows are put by processes of an engine: as one process settles them, and what late copies do."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import headwater as hw
from headwater.compute.materializing import sink, ties_elsewhere
from headwater.compute.materializing.shared_lease import PUT_TIME
from headwater.compute.materializing.tie_sink import TieSink
from headwater.offline.base import ChangeCounts, ChangesRequest
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.offline.sink import Executors, PutCounts, Sink
from tests.executors import ExecutorEngine, Luck
from tests.interleaved.left_out import Edit, edit
from tests.unit.compute.materializing import test_force_elsewhere as force
from tests.unit.compute.materializing.test_force_elsewhere import SECOND, USER, World, key, no_rows_here, place

__all__ = ["no_rows_here", "place"]


class TiesWorld(World):
    """One whose source is corrected under the same times."""

    def change(self, store: hw.FeatureStore) -> None:
        """Rows that are corrected, twice there, gone, and of deleted keys; those that the log has win."""
        few = self.chance.sample
        store.delete("activity", [key(n) for n in few(range(40), 5)])
        self.rows += [self.row(n, -SECOND) for n in range(20, 40)]
        self.now += SECOND
        self.save()
        store.materialize()
        store.delete("activity", [key(n) for n in few(range(20), 3)])
        store.write("activity", [self.row(n, -SECOND) for n in few(range(40), 4)])
        corrected, gone = set(few(range(60), 30)), set(few(range(60), 4))
        self.rows = [
            {**row, "x": row["x"] + (n in corrected), "tags": row["tags"] + ["new"] * (n % 7 == 0)}
            for n, row in enumerate(self.rows)
            if n not in gone
        ]
        self.rows += [{**row, "x": row["x"] // 2} for row in self.rows[::5]]
        self.now += SECOND
        self.save()


def shown(report: Any) -> dict[str, Any]:
    (run,) = report.runs
    return {**force.shown(report), "superseded": run.superseded}


def settled_here(folder: Path, seed: int) -> tuple[dict[Any, Any], list[dict[str, Any]]]:
    """What one process leaves in memory, and reports; twice."""
    world = TiesWorld(folder, seed)
    with world.open("memory:") as store:
        store.apply([USER, force.view()])
        world.change(store)
        reports = [shown(store.materialize()) for _ in range(2)]
        return force.state(store), reports


def settled_there(world: TiesWorld, url: str, engine: ExecutorEngine) -> tuple[dict[Any, Any], list[dict[str, Any]]]:
    """The same by processes of an engine."""
    with world.open(url) as store:
        store.apply([USER, force.view()])
        world.change(store)
    with world.open(url, engine) as store:
        reports = [shown(store.materialize()) for _ in range(2)]
        found = force.state(store)
        version = store.context.registry.refresh().view("activity").version().version
        assert not store.context.forcing.pending("activity", version), "the next run has no more to read than others"
    engine.close()
    return found, reports


def test_processes_settle_what_one_process_settles(
    tmp_path: Path, place: str, no_rows_here: pytest.MonkeyPatch
) -> None:
    wanted, reports = settled_here(tmp_path / "here" / "project", 3)
    assert reports[0]["applied"] > 20 and reports[0]["ties"] > 3
    world = TiesWorld(tmp_path / "there" / "project", 3)
    assert settled_there(world, place, ExecutorEngine(world.folder, 2)) == (wanted, reports)


def test_processes_that_run_twice_settle_the_same(tmp_path: Path, no_rows_here: pytest.MonkeyPatch) -> None:
    wanted, _ = settled_here(tmp_path / "here" / "project", 4)
    world = TiesWorld(tmp_path / "there" / "project", 4)
    # of a row that the other one of two has put nothing is counted
    found, _ = settled_there(world, f"lmdb:{tmp_path}/online", ExecutorEngine(world.folder, 2, luck=Luck(1, twice=0.5)))
    assert found == wanted


def test_ties_that_are_settled_a_few_at_a_time(tmp_path: Path, no_rows_here: pytest.MonkeyPatch) -> None:
    no_rows_here.setattr(ties_elsewhere, "AT_ONCE", 12)
    no_rows_here.setattr(sink, "ROWS", 2)
    wanted, reports = settled_here(tmp_path / "here" / "project", 6)
    world = TiesWorld(tmp_path / "there" / "project", 6)
    found = settled_there(world, f"lmdb:{tmp_path}/online", ExecutorEngine(world.folder, 1))
    assert found == (wanted, reports)


class LateEngine(DuckDBEngine):
    """The embedded engine; what is to settle ties is read by two, one of whom is late.

    Attributes:
        late: what settles ties, and the rows that it has read.
        between: called when the first has read its rows, and the second has not.
    """

    executors = Executors.LOCAL

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.late: list[tuple[Sink, list[pa.RecordBatch]]] = []
        self.between: Callable[[], Any] = lambda: None
        self.reads_once = False

    def put_changes(self, request: ChangesRequest, counts: ChangeCounts, sink: Sink) -> Iterator[PutCounts]:
        batches = list(self.changes(request, counts))
        if isinstance(sink, TieSink):
            self.late.append((sink, batches))
            between, self.between = self.between, lambda: None
            between()
            if not self.reads_once:
                batches = list(self.changes(request, ChangeCounts()))
        yield sink.put(batches)

    def goes_on(self) -> PutCounts:
        """The first of those that are late goes on."""
        sink, batches = self.late[0]
        return sink.put(batches)


class Killed(BaseException):
    """What ends a run where it is."""


class Late:
    """One key of a source whose value is changed under the same times, and a store whose processes may be late."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.world = World(folder / "project", 1)
        self.row = self.world.rows[0]
        self.url = f"lmdb:{folder}/online"
        self.patch = patch
        self.engine = LateEngine(self.world.folder)
        self.store = self.world.open(self.url, self.engine)
        self.store.apply([USER, force.view()])
        self.says(1)
        self.store.materialize()

    def says(self, *values: int, age: int = 0) -> None:
        """The source has these values of the key, and nothing else."""
        self.world.now += SECOND
        self.world.rows = [{**self.row, "at": self.row["at"] - age * SECOND, "x": x} for x in values]
        self.world.save()
        # long ago, so that a run does not take it for one that is still written to
        moment = int(self.world.now.timestamp()) * 10**9 - 10**18
        os.utime(self.world.folder / "source" / "rows.parquet", ns=(moment, moment))

    def run(self) -> None:
        self.world.now += 10 * SECOND
        self.store.materialize()

    def killed(self) -> None:
        """A run that is killed when a process has read the source."""

        def kill() -> None:
            raise Killed

        self.engine.between = kill
        with pytest.raises(Killed):
            self.run()

    def goes_on(self) -> None:
        """A late process goes on that had looked at its run before that ended."""
        with self.patch.context() as patch:
            patch.setattr(sink.OnlineSink, "_left", lambda *given: (PUT_TIME, ""))
            assert not self.engine.goes_on().stopped

    def stored(self) -> Any:
        return self.store.get_online_features(["activity:x"], [key(0)]).to_dict()["x"][0]


def came_back(late: Late) -> None:
    """A late copy has read a value; the run, and the next one, the one that is stored."""
    late.says(2)
    late.engine.between = lambda: late.says(1)
    late.run()
    late.run()
    late.goes_on()


def went_and_came_back(late: Late) -> None:
    """The same; meanwhile the source had no row of these times."""
    late.says(2)
    late.engine.between = lambda: late.says(5, age=5)
    late.run()
    late.says(1)
    late.run()
    late.goes_on()


def run_that_was_killed(late: Late) -> None:
    """The same of a run that was killed: the note of the run makes the next read everything."""
    late.says(2)
    late.killed()
    late.says(1)
    late.run()
    late.goes_on()
    late.run()


def late_one_first(late: Late) -> None:
    """A late copy of a run that was killed replaces the row before the run that settles the tie."""
    late.says(3)
    late.killed()
    late.says(2)
    late.engine.between = late.goes_on
    late.engine.reads_once = True
    late.run()


def corrected_since(late: Late) -> None:
    """A late copy has read a value that was put, and corrected since."""
    late.says(2)
    late.run()
    late.says(3)
    late.run()
    late.goes_on()


_SINK = (TieSink, "_put")
_NOT_MOVED: Edit = (ties_elsewhere._Run, "_move", "keys, high_water = list(left)", "keys, high_water = []")
_NO_NOTE = "lease.forces(note)\n    context.forcing.end(note)"
_READ, _OWN = "self.stored.of_number(key_number(key))", "sequence_of(row)"

RULES: dict[str, tuple[Callable[[Late], None], int, list[Edit]]] = {
    "a row of the same values is put again": (
        came_back,
        1,
        [(*_SINK, "elif same is not None", "elif same is False"), _NOT_MOVED],
    ),
    "a row that the source has no more is put again": (went_and_came_back, 1, [_NOT_MOVED]),
    "a run that is killed leaves a note": (
        run_that_was_killed,
        1,
        [(ties_elsewhere, "settle_elsewhere", "lease.forces(note)", _NO_NOTE)],
    ),
    "a key whose sequence has moved is looked at again": (late_one_first, 2, [(*_SINK, "again.append(key)", "pass")]),
    "the sequence is the one that the run has read": (corrected_since, 3, [(*_SINK, _READ, _OWN)]),
}


@pytest.mark.parametrize("rule", RULES)
def test_late_processes_change_nothing_that_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    order, wanted, edits = RULES[rule]
    late = Late(tmp_path / "as it is", monkeypatch)
    order(late)
    assert late.stored() == wanted
    late.store.close()
    edit(edits, monkeypatch)
    late = Late(tmp_path / "without", monkeypatch)
    order(late)
    assert late.stored() != wanted
    late.store.close()


def test_a_process_of_a_run_that_has_ended_puts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late = Late(tmp_path, monkeypatch)
    late.says(2)
    late.run()
    assert late.engine.goes_on().stopped == "the run has ended"
    assert late.stored() == 2
    late.store.close()
