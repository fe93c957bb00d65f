"""Which files count as read: by the watermark's epoch token and n, on SQLite and on PostgreSQL."""

from __future__ import annotations

import copy
import json
import random
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from headwater.database.transactions import writing
from headwater.planning.files import FileIdentity, compare_files
from headwater.registry import files, migrations
from headwater.registry.files import FileEntries
from headwater.registry.migrations import MIGRATIONS
from headwater.registry.registry import open_registry
from headwater.testing import SCALE

NOW = datetime(2024, 1, 1, tzinfo=UTC)
LATER = 2**60
TOKEN, OTHER = b"\x00epoch\xff", b"another"
V = ("weather", "1.0.0")


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    url = "sqlite:///registry.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    registry = open_registry(url, tmp_path, "p", clock=lambda: NOW)
    yield registry.engine
    registry.close()


@pytest.fixture
def entries(engine: sa.Engine) -> FileEntries:
    return FileEntries(engine)


def file(path: str, content: int = 0, **more: Any) -> FileIdentity:
    return FileIdentity(path, 100 + content, 1_700_000_000_123_456_789 + content, **more)


def record(entries: FileEntries, n: int, *changed: FileIdentity, listed: Any = None, token: bytes = TOKEN) -> int:
    return entries.record(*V, token, n, changed, [f.path for f in changed] if listed is None else listed)


def test_nothing_is_known_before_the_first_run(entries: FileEntries) -> None:
    assert entries.read(*V, TOKEN, 0) is None
    assert entries.read(*V, TOKEN, 1) is None


def test_what_was_recorded_reads_back(entries: FileEntries) -> None:
    given = [
        file("a.parquet"),
        file("data/ü/b.parquet", inode=2**64 - 1, device="host:66306", rows=2**40),
        file("s3://bucket/c.parquet", etag='"9b2c-7"', settled=False),
        file('it\'s \\ "quoted" %s :x\n.csv', rows=0),
    ]
    n = record(entries, 0, *given)
    assert n == 1 and entries.read(*V, TOKEN, n) == {f.path: f for f in given}


def test_a_path_may_be_as_long_as_a_file_system_takes_it(entries: FileEntries) -> None:
    long = ["/".join([letter * 200] * 20) for letter in "ab"]
    n = record(entries, 0, *map(file, long))
    assert set(entries.read(*V, TOKEN, n) or ()) == set(long)
    n = record(entries, n, listed=long[:1])
    assert set(entries.read(*V, TOKEN, n) or ()) == {long[0]}


def test_entries_of_a_run_that_did_not_write_its_watermark_do_not_count(entries: FileEntries) -> None:
    n = record(entries, 0, file("a"), file("b"))
    assert record(entries, n, file("a", 1), listed=["a", "b"]) == n + 1
    assert entries.read(*V, TOKEN, n) == {"b": file("b")}
    assert entries.read(*V, TOKEN, n + 1) == {"a": file("a", 1), "b": file("b")}


def test_another_epoch_of_the_store_knows_nothing(entries: FileEntries) -> None:
    n = record(entries, 0, file("a"))
    assert entries.read(*V, OTHER, n) is None
    later = record(entries, 0, file("b"), listed=["a", "b"], token=OTHER)
    assert later == n + 1 and entries.read(*V, OTHER, later) == {"b": file("b")}
    assert entries.read(*V, TOKEN, n) == {}


def test_a_watermark_whose_n_the_database_does_not_have_means_that_all_is_read(entries: FileEntries) -> None:
    record(entries, 0, file("a"))
    assert entries.read(*V, TOKEN, 7) is None
    assert record(entries, 7, file("a")) == 8
    assert entries.read(*V, TOKEN, 8) == {"a": file("a")} and entries.read(*V, TOKEN, 7) is None


def test_n_is_recorded_where_no_file_changed(entries: FileEntries) -> None:
    n = record(entries, 0, file("a"))
    again = record(entries, n, listed=["a"])
    assert again == n + 1
    assert entries.read(*V, TOKEN, again) == entries.read(*V, TOKEN, n) == {"a": file("a")}


def test_only_what_differs_is_written(engine: sa.Engine, entries: FileEntries) -> None:
    n = record(entries, 0, *[file(f"{i}") for i in range(50)])
    statements: list[tuple[str, Any]] = []
    sa.event.listen(engine, "after_cursor_execute", lambda c, cur, text, values, *_: statements.append((text, values)))
    record(entries, n, file("7", 1), listed=[f"{i}" for i in range(50)])
    written = [(text, values) for text, values in statements if "registry_file_entry" in text and "SELECT" not in text]
    inserted = [values for text, values in written if text.startswith("INSERT")]
    assert len(inserted) == 1 and str(inserted).count("'7'") == 1
    removed = [values for text, values in written if text.startswith("DELETE")]
    assert len(removed) == 2, "what is of another epoch or a later n, and the old entry of the one file"
    del statements[:]
    record(entries, n + 1, listed=[f"{i}" for i in range(50)])
    assert sum("INSERT INTO registry_file_entry" in text for text, _ in statements) == 0


def test_entries_of_files_that_were_not_listed_are_removed(entries: FileEntries) -> None:
    n = record(entries, 0, file("a"), file("b"))
    n = record(entries, n, listed=["b"])
    assert entries.read(*V, TOKEN, n) == {"b": file("b")}
    # it comes back as it was: its rows may have been removed meanwhile
    assert compare_files(entries.read(*V, TOKEN, n), [file("a"), file("b")], LATER).whole == {"a"}


def test_what_another_run_recorded_meanwhile_is_not_taken_over(entries: FileEntries) -> None:
    """It was read only up to the other's end, which may be before this one's."""
    n = record(entries, 0, file("a"))
    other = record(entries, n, file("a", 1))
    mine = record(entries, n, listed=["a"])
    assert mine == other + 1
    assert entries.read(*V, TOKEN, mine) == {}


def test_versions_are_apart(entries: FileEntries) -> None:
    n = record(entries, 0, file("a"))
    assert entries.read("weather", "2.0.0", TOKEN, n) is None
    assert entries.read("other", "1.0.0", TOKEN, n) is None
    assert entries.record("weather", "2.0.0", TOKEN, 0, [file("b")], ["b"]) == 1
    assert entries.read(*V, TOKEN, n) == {"a": file("a")}


def test_force_removes_the_entries_of_files_that_are_gone(entries: FileEntries) -> None:
    n = record(entries, 0, file("a"), file("b"), file("c"))
    assert entries.remove_missing(*V, ["b", "new"]) == ["a", "c"]
    assert entries.read(*V, TOKEN, n) == {"b": file("b")}
    assert entries.remove_missing(*V, ["b"]) == []


def test_entries_go_with_the_versions_rows(engine: sa.Engine, entries: FileEntries) -> None:
    n = record(entries, 0, file("a"))
    entries.record("weather", "2.0.0", TOKEN, 0, [file("b")], ["b"])
    assert entries.warn_once(*V)
    entries.forget(*V)
    assert entries.read(*V, TOKEN, n) is None
    with engine.connect() as connection:
        for table in (files.file_entries, files.file_runs, files.file_states):
            assert {row.version for row in connection.execute(sa.select(table))} == {"2.0.0"}
    entries.forget("weather", "none")


def test_a_version_is_warned_of_once_until_force(entries: FileEntries) -> None:
    assert [entries.warn_once(*V) for _ in range(3)] == [True, False, False]
    assert record(entries, 0, file("a")) == 1
    assert not entries.warn_once(*V) and entries.warn_once("weather", "2.0.0")
    entries.warn_again(*V)
    assert [entries.warn_once(*V) for _ in range(2)] == [True, False]
    entries.warn_again("never", "run")


def test_n_goes_on_after_a_warning_alone(entries: FileEntries) -> None:
    entries.warn_once(*V)
    assert record(entries, 0) == 1
    assert entries.read(*V, TOKEN, 0) is None and entries.read(*V, TOKEN, 1) == {}


def test_old_numbers_are_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch, entries: FileEntries) -> None:
    monkeypatch.setattr(files, "KEPT_RUNS", 3)
    n = record(entries, 0, file("a"))
    for _ in range(5):
        n = record(entries, n, listed=["a"])
    assert [entries.read(*V, TOKEN, i) is not None for i in range(1, n + 1)] == [False] * 3 + [True] * 3


@pytest.mark.parametrize("n", [-1, 2**63, 2**64])
def test_a_number_that_no_run_can_have_is_unknown(entries: FileEntries, n: int) -> None:
    record(entries, 0, file("a"))
    assert entries.read(*V, TOKEN, n) is None
    assert record(entries, n, file("a")) == 2


@pytest.mark.parametrize("stored", ["", "{", "[]", '{"format": 9, "size": 1, "modified_ns": 2}', '{"format": 1}'])
def test_an_entry_that_cannot_be_read_makes_its_file_be_read_again(
    engine: sa.Engine, entries: FileEntries, stored: str
) -> None:
    n = record(entries, 0, file("a"), file("b"))
    table = files.file_entries
    with writing(engine) as connection:
        connection.execute(table.update().where(table.c.path == "a").values(identity=stored))
    assert entries.read(*V, TOKEN, n) == {"b": file("b")}
    n = record(entries, n, file("a"), listed=["a", "b"])
    assert entries.read(*V, TOKEN, n) == {"a": file("a"), "b": file("b")}


def test_identities_are_stored_in_a_form_of_their_own(engine: sa.Engine, entries: FileEntries) -> None:
    record(entries, 0, file("a", inode=5, device="h:1", rows=3))
    with engine.connect() as connection:
        (stored,) = connection.execute(sa.select(files.file_entries.c.identity)).scalars()
    named = {"size": 100, "modified_ns": 1_700_000_000_123_456_789, "inode": 5, "device": "h:1", "rows": 3}
    assert json.loads(stored) == {"format": 1, **named}


def test_runs_that_record_at_once_take_numbers_of_their_own(engine: sa.Engine) -> None:
    start = threading.Barrier(4)

    def run(number: int) -> list[int]:
        start.wait()
        return [record(FileEntries(engine), 0, file(f"{number}", i), file("same", i)) for i in range(5)]

    with ThreadPoolExecutor(4) as pool:
        taken = [n for some in pool.map(run, range(4)) for n in some]
    assert sorted(taken) == list(range(1, 21))
    assert set(FileEntries(engine).read(*V, TOKEN, 20) or ()) <= {*"0123", "same"}


def test_a_run_that_dies_while_it_records_leaves_all_as_it_was(
    engine: sa.Engine, entries: FileEntries, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = record(entries, 0, file("a"), file("b"))
    with monkeypatch.context() as patched:
        patched.setattr(files, "_packed", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            record(entries, n, file("a", 1))
    assert entries.read(*V, TOKEN, n) == {"a": file("a"), "b": file("b")}
    assert entries.read(*V, TOKEN, n + 1) is None


def test_thousands_of_files_take_a_few_statements(engine: sa.Engine, entries: FileEntries) -> None:
    many = [file(f"data/{i:05}.parquet", rows=i) for i in range(5_000)]
    count = [0]
    sa.event.listen(engine, "before_cursor_execute", lambda *_: count.__setitem__(0, count[0] + 1))
    n = record(entries, 0, *many)
    n = record(entries, n, *[replace(f, size=1) for f in many[:2_500]], listed=[f.path for f in many[:4_000]])
    assert count[0] < 60
    assert len(entries.read(*V, TOKEN, n) or ()) == 4_000


def test_a_registry_of_the_release_before_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "MIGRATIONS", replace(MIGRATIONS, steps=MIGRATIONS.steps[:2]))
        open_registry("sqlite:///registry.db", tmp_path, "p").close()
    with sqlite3.connect(tmp_path / "registry.db") as connection:
        assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name LIKE 'registry_file%'").fetchall()
    registry = open_registry("sqlite:///registry.db", tmp_path, "p")
    entries = FileEntries(registry.engine)
    assert entries.read(*V, TOKEN, 0) is None and record(entries, 0, file("a")) == 1
    registry.close()


# -- every order of runs, kills, lost watermarks and restored databases


@dataclass
class Run:
    """A run under way: what it began from, what it listed, and how far it has come."""

    end: int
    token: bytes
    replication: int
    mark: tuple[int, bytes, int] | None
    known: dict[str, FileIdentity] | None = None
    listed: dict[str, int] = field(default_factory=dict)
    step: int = 0
    n: int = 0


class World:
    """An online store that remembers up to when it has the rows of each content of each file, and a registry."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine, self.entries = engine, FileEntries(engine)
        self.now, self.content, self.token = 10, {"a": 1, "b": 1}, 0
        self.contents, self.replication = 1, 0
        self.covered: dict[tuple[str, int], int] = {}
        self.mark: tuple[int, bytes, int] | None = None
        self.stores: list[Any] = []
        self.backup: sqlite3.Connection | None = None
        self.runs: list[Run] = []

    def begin(self) -> None:
        self.now += 1
        token = b"%d" % self.token
        run = Run(self.now, token, self.replication, self.mark)
        if self.mark is not None:
            run.known = self.entries.read(*V, self.mark[1], self.mark[2]) if self.mark[1] == token else None
        self.runs.append(run)

    def go_on(self, run: Run) -> None:
        """One step: list, read, compare with what is there now, record, write the watermark."""
        run.step += 1
        old = run.mark[0] if run.mark is not None and run.known is not None else -1
        if run.step == 1:
            run.listed = dict(self.content)
        elif run.step == 2:
            changed = compare_files(run.known, self._identities(run), LATER).whole
            for path, content in run.listed.items():
                before = self.covered.get((path, content), -1)
                if path in changed or before >= old:
                    self.covered[path, content] = max(before, run.end)
                else:
                    # the store lost rows under this run: its watermark will not be written
                    assert not self.same(run), f"{path} counts as read up to {old}, and is only up to {before}"
        elif run.step == 3:
            changed = compare_files(run.known, self._identities(run), LATER)
            n = 0 if run.mark is None else run.mark[2]
            run.n = self.entries.record(*V, run.token, n, (*changed.new, *changed.changed), run.listed)
        else:
            self.runs.remove(run)
            if self.same(run) and (self.mark is None or self.mark[0] < run.end):
                self.keep()
                self.mark = (run.end, run.token, run.n)

    def same(self, run: Run) -> bool:
        """Whether the store is as the run met it: what a run compares when it writes its watermark."""
        return (run.token, run.replication) == (b"%d" % self.token, self.replication)

    @staticmethod
    def _identities(run: Run) -> list[FileIdentity]:
        return [file(path, content) for path, content in run.listed.items()]

    def keep(self) -> None:
        self.stores.append((self.mark, copy.copy(self.covered), self.token))

    def fail_over(self, back: int) -> None:
        """The store's last operations are lost; runs under way find that out before they write their watermark."""
        self.replication += 1
        if self.stores:
            self.mark, self.covered, self.token = self.stores[max(0, len(self.stores) - back)]
            self.covered = copy.copy(self.covered)

    def flush(self) -> None:
        self.mark, self.covered = None, {}
        self.token += 1

    def back_up(self) -> None:
        self.backup = sqlite3.connect(":memory:")
        with self._raw() as connection:
            connection.backup(self.backup)

    def restore(self) -> None:
        """The registry is restored, its writers stopped; its store takes another token."""
        if self.backup is not None:
            self.runs.clear()
            with self._raw() as connection:
                self.backup.backup(connection)
            self.token += 1

    @contextmanager
    def _raw(self) -> Iterator[sqlite3.Connection]:
        with self.engine.connect() as connection:
            raw = connection.connection.dbapi_connection
            assert isinstance(raw, sqlite3.Connection)
            yield raw

    def next(self, draw: random.Random) -> None:
        """Something happens."""
        run = draw.choice(self.runs) if self.runs else None
        chance = draw.random()
        if chance < 0.60 and run is not None:
            for _ in range(draw.choice([1, 1, 2, 4])):
                if run in self.runs:
                    self.go_on(run)
        elif chance < 0.76:
            if len(self.runs) < 3:
                self.begin()
        elif chance < 0.90:
            self.contents += 1
            self.content[draw.choice("ab")] = self.contents
        elif chance < 0.92:
            self.content.pop(draw.choice("ab"), None)
        elif chance < 0.94 and run is not None:
            self.runs.remove(run)
        elif chance < 0.97:
            self.fail_over(draw.choice([1, 1, 2, 3]))
        elif chance < 0.98:
            self.flush()
        elif chance < 0.99:
            self.back_up()
        else:
            self.restore()


@pytest.mark.parametrize("part", range(4))
def test_no_file_counts_as_read_whose_rows_the_store_lacks(part: int, tmp_path: Path) -> None:
    # the last is one in which two runs overlap, and the one that began first ends first
    for seed in [*range(part, 40 * SCALE, 4), 277]:
        registry = open_registry("sqlite://", tmp_path, "p", clock=lambda: NOW)
        world, draw = World(registry.engine), random.Random(seed)
        for _ in range(60):
            world.next(draw)
        registry.close()
