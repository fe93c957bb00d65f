"""What is SQLite's own of the registry: its file, its schema, its locks; the suite is run in tests/conformance."""

from __future__ import annotations

import multiprocessing
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.sources import PushSource
from headwater.definitions.view import FeatureView
from headwater.errors import (
    ConfigError,
    FormatError,
    MissingExtra,
    StoreReadOnly,
    Unavailable,
)
from headwater.planning.diff import plan
from headwater.planning.plan import Plan
from headwater.registry import migrations, tables
from headwater.registry.migrations import MIGRATIONS
from headwater.registry.registry import FeatureRegistry, open_registry
from headwater.types import Float64, String
from tests.forked import run_forked

NOW = datetime(2024, 1, 1, tzinfo=UTC)
AIRPORT = Entity("airport", {"airport": String}, description="a place", tags={"a": "b"})
FILE = "sqlite:///.headwater/registry.db"


def view(*names: str, name: str = "weather", **other: Any) -> FeatureView:
    features = [Feature(n, Float64) for n in names]
    return FeatureView(name, entity=AIRPORT, source=PushSource(event_time="t"), features=features, **other)


def planned(registry: FeatureRegistry, *definitions: Any, whole: bool = False) -> Plan:
    return plan(registry.refresh(), definitions, whole_project=whole, now=NOW)


def apply(registry: FeatureRegistry, *definitions: Any, now: datetime = NOW, whole: bool = False) -> Plan:
    found = planned(registry, *definitions, whole=whole)
    registry.apply(found, now=now, log_head=3, who="me")
    return found


@pytest.fixture
def file_registry(tmp_path: Path) -> Iterator[FeatureRegistry]:
    found = open_registry(FILE, tmp_path, "flights", clock=lambda: NOW)
    yield found
    found.close()


def test_serving_goes_on_while_the_registry_cannot_be_read(tmp_path: Path) -> None:
    registry = open_registry(FILE, tmp_path, "flights", refresh=timedelta(0))
    apply(registry, view("temp"))
    known = registry.snapshot()
    registry.close()
    path = tmp_path / ".headwater" / "registry.db"
    path.rename(tmp_path / "away")
    path.mkdir()
    assert registry.snapshot() is known
    with pytest.raises(Unavailable, match=r"registry\.db"):
        registry.refresh()
    registry.close()


class TestDatabase:
    def test_the_migrations_make_the_tables(self, file_registry: FeatureRegistry) -> None:
        found = sa.MetaData()
        found.reflect(file_registry.engine)
        for table in tables.metadata.sorted_tables:
            made = found.tables[table.name]
            assert [c.name for c in made.columns] == [c.name for c in table.columns]
            for column in table.columns:
                assert str(made.c[column.name].type) == str(column.type), f"{table.name}.{column.name}"
                assert made.c[column.name].nullable == column.nullable, f"{table.name}.{column.name}"
            assert [c.name for c in made.primary_key] == [c.name for c in table.primary_key]
            assert {i.name for i in made.indexes} == {i.name for i in table.indexes}

    @pytest.mark.parametrize("attempt", range(8))
    def test_a_kill_while_it_is_made_leaves_one_that_can_be_used(self, tmp_path: Path, attempt: int) -> None:
        def make() -> None:
            apply(open_registry(FILE, tmp_path, "p"), view("temp"))

        process = multiprocessing.get_context("fork").Process(target=make)
        process.start()
        deadline = time.monotonic() + 60
        while not (tmp_path / ".headwater/registry.db").exists() and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(random.Random(attempt).uniform(0, 0.02))
        process.kill()
        process.join()
        registry = open_registry(FILE, tmp_path, "p")
        assert registry.snapshot().revision in (0, 1)
        apply(registry, view("wind"))
        registry.close()

    def test_steps_are_run_once_and_in_order(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        open_registry(FILE, tmp_path, "p").close()
        more = (*MIGRATIONS.steps, ("ALTER TABLE registry_entity ADD COLUMN extra TEXT",))
        monkeypatch.setattr(migrations, "MIGRATIONS", replace(MIGRATIONS, steps=more))
        for _ in range(2):
            open_registry(FILE, tmp_path, "p").close()
        with sqlite3.connect(tmp_path / ".headwater/registry.db") as connection:
            found = connection.execute("SELECT version FROM registry_schema ORDER BY 1").fetchall()
            assert found == [(number,) for number in range(1, len(more) + 1)]
            connection.execute("SELECT extra FROM registry_entity")

    def test_a_step_that_fails_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        open_registry(FILE, tmp_path, "p").close()
        more = (*MIGRATIONS.steps, ("CREATE TABLE half (x INTEGER)", "SELECT nothing FROM nowhere"))
        with monkeypatch.context() as patched:
            patched.setattr(migrations, "MIGRATIONS", replace(MIGRATIONS, steps=more))
            with pytest.raises(Unavailable):
                open_registry(FILE, tmp_path, "p")
        with sqlite3.connect(tmp_path / ".headwater/registry.db") as connection:
            assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'half'").fetchall() == []
        open_registry(FILE, tmp_path, "p").close()

    def test_a_newer_schema_is_refused(self, tmp_path: Path) -> None:
        open_registry(FILE, tmp_path, "p").close()
        with sqlite3.connect(tmp_path / ".headwater/registry.db") as connection:
            connection.execute("INSERT INTO registry_schema VALUES (99, 0)")
        with pytest.raises(
            FormatError, match=rf"has format 99, this headwater reads up to {len(MIGRATIONS.steps)}: upgrade"
        ):
            open_registry(FILE, tmp_path, "p")

    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        (tmp_path / "x.db").write_bytes(b"not a database" * 100)
        with pytest.raises(FormatError, match="not a headwater database"):
            open_registry("sqlite:///x.db", tmp_path, "p")

    @pytest.mark.parametrize("url", ["registry.db", "", "nonsense://x", "sqlite:/x"])
    def test_a_url_that_is_none(self, url: str, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"\[registry\] url"):
            open_registry(url, tmp_path, "p")

    def test_a_server_that_is_not_there(self, tmp_path: Path) -> None:
        url = "postgresql+psycopg://me:secret@127.0.0.1:1/db"
        # the driver is an extra
        with pytest.raises((Unavailable, MissingExtra), match=r"registry postgresql|headwater\[postgres\]") as bad:
            open_registry(url, tmp_path, "p")
        assert "secret" not in str(bad.value)

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / ".headwater").write_text("a file")
        with pytest.raises(StoreReadOnly, match="its folder cannot be created"):
            open_registry(FILE, tmp_path, "p")

    def test_a_writer_that_holds_it_for_long_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("headwater.database.sqlite.BUSY_SECONDS", 0.2)
        registry = open_registry(FILE, tmp_path, "p")
        with sqlite3.connect(tmp_path / ".headwater/registry.db", isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="locked by another process"):
                apply(registry, view("temp"))
            assert registry.refresh().revision == 0, "readers go on beside a writer"
            other.execute("ROLLBACK")
        apply(registry, view("temp"))
        registry.close()

    def test_a_full_disk_changes_nothing(self, file_registry: FeatureRegistry) -> None:
        apply(file_registry, view("temp"))
        with file_registry.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        event = sa.event.listen
        event(file_registry.engine, "connect", lambda c, _: c.execute(f"PRAGMA max_page_count={pages}"))
        file_registry.engine.dispose()
        with pytest.raises(Exception, match="no space left"):
            for number in range(200):
                apply(file_registry, view(*(f"f{n}" for n in range(50)), name=f"v{number}"))
        found = file_registry.refresh()
        assert FeatureRegistry(file_registry.database, "flights").snapshot() == found
        assert found.views["weather"].live == "1.0.0"

    def test_memory_is_each_stores_own(self, tmp_path: Path) -> None:
        one, other = (open_registry("sqlite://", tmp_path, "p") for _ in range(2))
        apply(one, view("temp"))
        assert other.refresh().revision == 0
        assert list(tmp_path.iterdir()) == []


READ_ONLY = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from headwater.errors import StoreReadOnly
from headwater.planning.diff import plan
from headwater.registry import writes
from headwater.registry.registry import open_registry
if os.getuid() == 0:  # whom no permission stops
    os.setuid(12345)
now = datetime(2024, 1, 1, tzinfo=UTC)
registry = open_registry("sqlite:///registry.db", Path(sys.argv[1]), "p")
print(list(registry.snapshot().views))
try:
    registry.apply(plan(registry.snapshot(), [], whole_project=True, now=now), now=now)
except StoreReadOnly as refused:
    print("refused:", refused)
"""


@pytest.mark.parametrize("beside_a_writer", [False, True])
def test_a_folder_that_takes_no_writes_can_be_read(beside_a_writer: bool) -> None:
    # pytest's own folder is closed to other users
    with tempfile.TemporaryDirectory() as folder:
        registry = open_registry("sqlite:///registry.db", Path(folder), "p")
        apply(registry, view("temp"))
        if not beside_a_writer:
            registry.close()
        for path in [*Path(folder).iterdir(), Path(folder)]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        said = run_forked([sys.executable, "-c", READ_ONLY, folder])
        registry.close()
        Path(folder).chmod(0o755)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith(f"['weather']\nrefused: registry {Path(folder) / 'registry.db'}: ")
    assert "read-only" in said.stdout
