"""Files that come late: rows long known in files that are new, changed, rewritten or gone since the last run."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.compute.reports import RunReport
from headwater.definitions.source import Source
from headwater.errors import SourceError, StoreError
from headwater.offline.base import ChangeCounts
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.offline.engines.duckdb.workspace import DuckDBWorkspace
from headwater.testing import SCALE
from tests.servers.s3 import S3Server

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
AIRPORT = hw.Entity("airport", join_keys={"airport": hw.String})
Rows = dict[str, tuple[float, float]]
"""Key → the day, counted back from noon, on which its row happened and was learnt, and a value."""


def table(rows: Rows) -> pa.Table:
    days = pa.array([NOON - timedelta(days=day) for day, _ in rows.values()], pa.timestamp("us", "UTC"))
    values = pa.array([value for _, value in rows.values()], pa.float64())
    return pa.table({"airport": list(rows), "at": days, "seen": days, "temp": values})


class Project:
    """A store over one source of files, in a kind of source, on a clock to move.

    Attributes:
        now: its clock's time.
    """

    def __init__(self, folder: Path, kind: str, server: S3Server | None = None) -> None:
        self.folder, self.kind, self.now = folder, kind, NOON
        self._server = server
        self._bucket = server.make_bucket() if server is not None and kind == "bucket" else ""
        (folder / "data").mkdir(exist_ok=True)
        self.write("first", {"A": (1, 1.0), "B": (30, 2.0)})
        self.view = hw.FeatureView(
            "weather", entity=AIRPORT, source=self._source(), features=[hw.Feature("temp", hw.Float64)]
        )
        self.store = hw.FeatureStore(folder, clock=lambda: self.now)
        self.store.apply([AIRPORT, self.view])

    def _source(self) -> Source:
        times: dict[str, Any] = {"event_time": "at", "created_time": "seen"}
        match self.kind:
            case "parquet":
                return hw.ParquetSource("data", **times)
            case "glob":
                return hw.ParquetSource("data/*.parquet", **times)
            case "csv":
                return hw.CSVSource("data", **times)
            case "query":
                return hw.SQLSource("SELECT * FROM t", tables={"t": hw.ParquetSource("data")}, **times)
        assert self._server is not None
        return hw.ParquetSource(self._server.url(f"{self._bucket}/data"), **times)

    def path(self, name: str) -> Path:
        return self.folder / f"data/{name}.{'csv' if self.kind == 'csv' else 'parquet'}"

    def named(self, name: str) -> str:
        """A file as reports name it."""
        return (
            f"s3://{self._bucket}/data/{name}.parquet"
            if self._bucket
            else str(self.path(name).relative_to(self.folder))
        )

    def write(self, name: str, rows: Rows, age: float = 60) -> None:
        """A file, written aside and renamed, modified so many seconds ago."""
        aside = self.folder / "aside"
        write = pyarrow.csv.write_csv if self.kind == "csv" else pq.write_table
        write(table(rows), aside)
        os.utime(aside, (aside.stat().st_atime - age, aside.stat().st_mtime - age))
        aside.rename(self.path(name))
        if self._bucket and self._server is not None:
            self._server.client.upload_file(str(self.path(name)), self._bucket, f"data/{name}.parquet")

    def remove(self, name: str) -> None:
        self.path(name).unlink()
        if self._bucket and self._server is not None:
            self._server.client.delete_object(Bucket=self._bucket, Key=f"data/{name}.parquet")

    def run(self, days: float = 1, **options: Any) -> RunReport:
        """Time passes, then a run."""
        self.now += timedelta(days=days)
        return self.store.materialize(**options)["weather"]

    def online(self) -> dict[str, float]:
        keys = list("ABCDEF")
        found = self.store.get_online_features(["weather:temp"], {"airport": keys}).to_dict()["temp"]
        return {key: value for key, value in zip(keys, found, strict=True) if value is not None}

    def history(self) -> dict[str, float]:
        found = self.store.get_historical_features(None, ["weather:temp"], at=self.now).to_arrow().to_pylist()
        return {row["airport"]: row["temp"] for row in found}


KINDS = ["parquet", "glob", "csv", "query", "bucket"]


_tests = itertools.count()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "project" in metafunc.fixturenames:
        # every second kind, and the others for the next test
        kinds = KINDS[next(_tests) % 2 :: 2] if SCALE == 1 else KINDS
        metafunc.parametrize("project", kinds, indirect=True)


@pytest.fixture
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Project]:
    server = request.getfixturevalue("s3_server") if request.param == "bucket" else None
    made = Project(tmp_path, request.param, server)
    yield made
    made.store.close()


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path, "parquet")
    yield made
    made.store.close()


def test_a_file_that_comes_late_is_read_whole_however_old_its_rows_are(project: Project) -> None:
    assert project.run().rows == 2 and project.online() == {"A": 1.0, "B": 2.0}
    assert project.run().rows == 0
    project.write("late", {"C": (300, 3.0), "A": (400, 9.0)})
    report = project.run(days=10)
    assert not report.warnings
    # a query is read whole
    assert (report.rows, report.applied) == ((4, 3) if project.kind == "query" else (2, 1))
    assert project.online() == project.history() == {"A": 1.0, "B": 2.0, "C": 3.0}
    assert project.run().rows == 0


def test_a_file_that_grew_is_read_whole(project: Project) -> None:
    project.run()
    project.write("first", {"A": (1, 1.0), "B": (30, 2.0), "C": (200, 3.0)})
    report = project.run()
    assert report.rows == 3 and not report.warnings and not report.rewritten_files
    assert project.online() == project.history() == {"A": 1.0, "B": 2.0, "C": 3.0}


def test_a_corrected_value_at_the_same_times_replaces_the_old_one(project: Project) -> None:
    """The lesser one too: what the source says now decides, not what is stored."""
    project.run()
    for value in (7.0, 0.5, 3.0):
        project.write("first", {"A": (1, 1.0), "B": (30, value)})
        project.run()
        assert project.online() == project.history() == {"A": 1.0, "B": value}


def test_of_two_files_with_rows_of_the_same_times_history_decides(project: Project) -> None:
    project.write("second", {"A": (1, 5.0), "B": (30, 1.0)})
    project.run()
    assert project.online() == project.history() == {"A": 5.0, "B": 2.0}
    project.write("third", {"A": (1, 4.0), "B": (30, 3.0)})
    project.run()
    assert project.online() == project.history() == {"A": 5.0, "B": 3.0}
    project.write("third", {"A": (1, 4.0), "B": (30, 0.0), "C": (3, 1.0)})
    project.run()
    assert project.online() == project.history() == {"A": 5.0, "B": 2.0, "C": 1.0}


def test_rows_that_become_known_in_unchanged_files_are_taken(project: Project) -> None:
    project.write("ahead", {"C": (-3, 3.0), "D": (-5, 4.0)})
    assert project.run().future == 2
    assert project.run(days=3).rows == 1 and project.online() == {"A": 1.0, "B": 2.0, "C": 3.0}
    assert project.run(days=3).rows == 1 and project.online() == project.history()


def test_a_file_that_is_gone_or_has_fewer_rows_is_named_with_the_command(project: Project) -> None:
    project.write("second", {"C": (3, 3.0), "D": (4, 4.0)})
    project.write("third", {"E": (5, 5.0)})
    project.run()
    project.remove("third")
    project.write("second", {"C": (3, 3.0)})
    report = project.run()
    assert report.missing_files == (project.named("third"),)
    assert report.rewritten_files == (project.named("second"),)
    (warning,) = report.warnings
    assert "headwater materialize weather --force" in warning and project.named("third") in warning
    assert "1 file missing, 1 file rewritten" in str(report)
    # they stay online, are told once a version, and go by force
    assert project.online() == {"A": 1.0, "B": 2.0, "C": 3.0, "D": 4.0, "E": 5.0}
    report = project.run()
    assert not report.missing_files and not report.rewritten_files and not report.warnings
    project.remove("second")
    report = project.run()
    assert report.missing_files == (project.named("second"),) and not report.warnings
    report = project.run(force=True)
    assert report.removed == 3 and project.online() == project.history() == {"A": 1.0, "B": 2.0}
    project.write("fourth", {"F": (5, 6.0)})
    project.run()
    project.remove("fourth")
    assert len(project.run().warnings) == 1


def test_gone_files_may_be_meant(tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text('[online]\ngone_files = "keep"\n')
    project = Project(tmp_path, "parquet")
    project.write("second", {"C": (3, 3.0)})
    project.run()
    project.remove("second")
    report = project.run()
    assert report.missing_files == ("data/second.parquet",) and not report.warnings
    assert project.online() == {"A": 1.0, "B": 2.0, "C": 3.0}
    project.store.close()


def test_a_file_that_comes_back_as_it_was_after_force_is_read_again(on_disk: Project) -> None:
    on_disk.write("second", {"C": (3, 3.0)})
    on_disk.run()
    shutil.move(on_disk.path("second"), on_disk.folder / "away")
    for run in ({"force": True}, {"entities": ["C"], "force": True}):
        on_disk.run(**run)
        assert on_disk.online() == {"A": 1.0, "B": 2.0}
        shutil.move(on_disk.folder / "away", on_disk.path("second"))
        on_disk.run()
        assert on_disk.online() == on_disk.history() == {"A": 1.0, "B": 2.0, "C": 3.0}
        shutil.move(on_disk.path("second"), on_disk.folder / "away")


def test_a_file_of_the_same_size_and_time_in_the_place_of_another_is_a_new_one(on_disk: Project) -> None:
    on_disk.run()
    before = on_disk.path("first").stat()
    on_disk.write("first", {"A": (1, 1.0), "C": (30, 7.0)})
    os.utime(on_disk.path("first"), ns=(before.st_atime_ns, before.st_mtime_ns))
    assert on_disk.path("first").stat().st_size == before.st_size
    on_disk.run()
    assert on_disk.online() == {"A": 1.0, "B": 2.0, "C": 7.0}


def test_a_file_modified_just_now_is_read_again(on_disk: Project) -> None:
    """In the same tick of its file system's clock it may be written again, in place."""
    on_disk.write("fresh", {"C": (3, 3.0)}, age=0)
    on_disk.run()
    path = on_disk.path("fresh")
    before = path.stat()
    pq.write_table(table({"D": (3, 4.0)}), on_disk.folder / "other")
    path.write_bytes((on_disk.folder / "other").read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_ino) == (before.st_size, before.st_ino)
    assert on_disk.run().rows == 1
    assert on_disk.online() == {"A": 1.0, "B": 2.0, "C": 3.0, "D": 4.0}


def test_a_link_that_leads_elsewhere_is_another_file(on_disk: Project) -> None:
    for name, rows in (("x", {"C": (3, 3.0)}), ("y", {"D": (3, 4.0)})):
        pq.write_table(table(rows), on_disk.folder / name)
        os.utime(on_disk.folder / name, (1_700_000_000, 1_700_000_000))
    on_disk.path("link").symlink_to(on_disk.folder / "x")
    on_disk.run()
    on_disk.path("link").unlink()
    on_disk.path("link").symlink_to(on_disk.folder / "y")
    on_disk.run()
    assert on_disk.online() == {"A": 1.0, "B": 2.0, "C": 3.0, "D": 4.0}


def test_a_store_that_lost_its_rows_is_filled_from_every_file(on_disk: Project) -> None:
    on_disk.run()
    on_disk.store.close()
    shutil.rmtree(on_disk.folder / ".headwater/online")
    on_disk.store = hw.FeatureStore(on_disk.folder, clock=lambda: on_disk.now)
    assert on_disk.run().rows == 2 and on_disk.online() == {"A": 1.0, "B": 2.0}


def test_a_registry_that_does_not_know_the_last_run_reads_every_file(on_disk: Project) -> None:
    on_disk.run()
    on_disk.write("late", {"C": (300, 3.0)})
    on_disk.store.context.files.forget("weather", "1.0.0")
    report = on_disk.run()
    assert report.rows == 3 and on_disk.online() == {"A": 1.0, "B": 2.0, "C": 3.0}
    assert on_disk.run().rows == 0


def test_a_run_that_dies_before_its_watermark_leaves_its_files_to_the_next(
    on_disk: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk.run()
    on_disk.write("late", {"C": (300, 3.0)})
    with monkeypatch.context() as patched:
        patched.setattr(on_disk.store.context.online, "put_meta", lambda *_, **__: 1 / 0)
        with pytest.raises(StoreError, match="ZeroDivisionError"):
            on_disk.run()
    assert on_disk.run().rows == 1 and on_disk.run().rows == 0


def test_a_start_of_the_users_own_and_keys_move_nothing(on_disk: Project) -> None:
    on_disk.run()
    on_disk.write("late", {"C": (300, 3.0), "D": (-1, 4.0)})
    assert on_disk.run(start=on_disk.now).rows == 1
    assert on_disk.online() == {"A": 1.0, "B": 2.0, "D": 4.0}
    assert on_disk.run(entities=["C"]).rows == 1
    assert on_disk.online() == {"A": 1.0, "B": 2.0, "C": 3.0, "D": 4.0}
    assert on_disk.run().rows == 2, "no run that moved the watermark has read it"


def test_versions_of_a_view_have_files_of_their_own(on_disk: Project) -> None:
    on_disk.run()
    on_disk.write("late", {"C": (300, 3.0)})
    more = hw.FeatureView(
        "weather",
        entity=AIRPORT,
        source=on_disk.view.source,
        features=[hw.Feature("temp", hw.Float64), hw.Feature("same", hw.Float64, column="temp")],
    )
    on_disk.store.apply([AIRPORT, more])
    on_disk.now += timedelta(days=1)
    runs = {run.version: run.rows for run in on_disk.store.materialize().runs}
    assert runs == {"1.0.0": 1, "1.1.0": 3}


# -- files that change while a run reads them


def meanwhile(
    monkeypatch: pytest.MonkeyPatch, happens: Callable[[int], None], *, before: bool = False
) -> list[ChangeCounts]:
    """Let something happen at each read of a source, once its rows were given, or before; what each read counted."""
    changes, reads = DuckDBEngine.changes, []

    def watched(engine: DuckDBEngine, request: Any, counts: ChangeCounts) -> Iterator[pa.RecordBatch]:
        if request.at is not None:
            yield from changes(engine, request, counts)
            return
        reads.append(counts)
        if before:
            happens(len(reads))
        yield from changes(engine, request, counts)
        if not before:
            happens(len(reads))

    monkeypatch.setattr(DuckDBEngine, "changes", watched)
    return reads


def test_a_file_that_changed_while_it_was_read_is_read_again(on_disk: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    on_disk.run()

    def happens(read: int) -> None:
        if read == 1:
            on_disk.write("first", {"A": (1, 1.0), "B": (30, 2.0), "C": (300, 3.0)})

    reads = meanwhile(monkeypatch, happens)
    report = on_disk.run()
    assert len(reads) == 2 and not report.warnings
    assert on_disk.online() == on_disk.history() == {"A": 1.0, "B": 2.0, "C": 3.0}


def test_a_file_that_never_holds_still_is_told_and_left_to_the_next_run(
    on_disk: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk.run()
    on_disk.write("still", {"D": (3, 4.0)})

    def happens(read: int) -> None:
        on_disk.write("first", {"A": (1, 1.0), "B": (30, 2.0), "C": (300, float(read))})

    with monkeypatch.context() as patched:
        reads = meanwhile(patched, happens)
        report = on_disk.run()
    assert len(reads) == 3
    (warning,) = report.warnings
    assert "1 file changed whenever it was read (data/first.parquet): the next run reads it again" in warning
    assert on_disk.run().rows == 3, "the file that held still is not read again"
    assert on_disk.online() == on_disk.history() == {"A": 1.0, "B": 2.0, "C": 3.0, "D": 4.0}


def test_a_file_that_is_gone_when_it_is_read_does_not_stop_the_run(
    on_disk: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk.run()
    on_disk.write("second", {"C": (3, 3.0)})
    on_disk.write("third", {"D": (3, 4.0)})

    def happens(read: int) -> None:
        if read == 1:
            on_disk.remove("second")

    with monkeypatch.context() as patched:
        meanwhile(patched, happens, before=True)
        on_disk.run()
    assert on_disk.online() == on_disk.history() == {"A": 1.0, "B": 2.0, "D": 4.0}
    assert on_disk.run().rows == 0


def test_a_read_that_fails_for_a_file_that_goes_meanwhile_is_begun_again(
    on_disk: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk.run()
    on_disk.write("second", {"C": (3, 3.0)})
    on_disk.write("third", {"D": (3, 4.0)})
    create = DuckDBWorkspace.create

    def removed(space: DuckDBWorkspace, name: str, query: Any) -> None:
        if on_disk.path("second").exists():
            on_disk.remove("second")
            on_disk.write("fourth", {"E": (400, 5.0)})
        create(space, name, query)

    with monkeypatch.context() as patched:
        patched.setattr(DuckDBWorkspace, "create", removed)
        assert not on_disk.run().missing_files
    assert on_disk.online() == on_disk.history() == {"A": 1.0, "B": 2.0, "D": 4.0, "E": 5.0}
    assert on_disk.run().rows == 0
    on_disk.path("third").write_bytes(b"not a file of Parquet")
    with pytest.raises(SourceError, match="third"):
        on_disk.run()


def test_a_source_without_a_file_is_an_error_that_names_it(on_disk: Project) -> None:
    on_disk.run()
    on_disk.remove("first")
    with pytest.raises(SourceError, match="no file at"):
        on_disk.run()
    on_disk.write("first", {"A": (1, 1.0), "B": (30, 2.0), "C": (40, 3.0)})
    on_disk.run()
    assert on_disk.online() == {"A": 1.0, "B": 2.0, "C": 3.0}
