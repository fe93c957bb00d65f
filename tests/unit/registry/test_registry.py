"""The registry on SQLite: what is applied reads back, one wins, nothing is lost."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.service import FeatureService
from headwater.definitions.sources import CSVSource, ParquetSource, PushSource, SQLSource
from headwater.definitions.view import FeatureView
from headwater.errors import (
    ChangeRefused,
    ConfigError,
    FeatureNotFound,
    FormatError,
    MissingExtra,
    RegistryConflict,
    RegistryError,
    StoreReadOnly,
    Unavailable,
    UsageError,
    VersionNotFound,
)
from headwater.planning.diff import plan
from headwater.planning.plan import Plan
from headwater.planning.watermark import Watermark
from headwater.registry import migrations, tables
from headwater.registry.leases import Leases
from headwater.registry.registry import FeatureRegistry, open_registry
from headwater.registry.transactions import reading, writing
from headwater.registry.versions import FeatureVersionManager
from headwater.types import Embedding, Float64, String, Timestamp

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


@pytest.fixture(params=["file", "memory"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FeatureRegistry]:
    found = open_registry(FILE if request.param == "file" else "sqlite://", tmp_path, "flights", clock=lambda: NOW)
    yield found
    found.close()


@pytest.fixture
def file_registry(tmp_path: Path) -> Iterator[FeatureRegistry]:
    found = open_registry(FILE, tmp_path, "flights", clock=lambda: NOW)
    yield found
    found.close()


RICH = FeatureView(
    "rich",
    entity=[AIRPORT, Entity("day", {"day": Timestamp})],
    source=SQLSource(
        "SELECT * FROM f", tables={"f": CSVSource("f.csv"), "g": ParquetSource("g")}, event_time="t", delay="5m"
    ),
    features=[
        Feature(
            "a", Float64, default=float("inf"), description="words", owner="you", tags={"x": "y"}, freshness_sla="5m"
        ),
        Feature("b", Embedding(2), default=[1, 2]),
        Feature("c", Timestamp, default=datetime(2020, 1, 1), kind="categorical"),
    ],
    join_key_map={"airport": "origin"},
    ttl="6h",
    freshness_sla="1h",
    availability_sla=0.99,
    owner="me",
    description="ü",
    tags={"tier": "gold"},
)


def test_what_was_applied_reads_back_as_planned(registry: FeatureRegistry, tmp_path: Path) -> None:
    service = FeatureService(
        "model", [RICH["a", "b"].rename({"a": "z"}), view("temp").alias("dest", {"airport": "d"})], tags={"k": "v"}
    )
    found = registry.apply(planned(registry, AIRPORT, RICH, view("temp"), service), now=NOW, log_head=3)
    assert found.revision == 1
    assert registry.snapshot() is found
    version = found.views["rich"].versions["1.0.0"]
    assert version.view.source == RICH.source
    assert version.view.feature_list == RICH.feature_list
    assert (version.created_at, version.updated_at, version.log_head, version.automatic) == (NOW, NOW, 3, True)
    assert found.services["model"].version().selections[0].renames == {"a": "z"}
    other = FeatureRegistry(registry.engine, "flights")
    assert other.snapshot() == found
    assert not planned(registry, AIRPORT, RICH, view("temp"), service).stages


def test_applying_the_same_again_changes_nothing(registry: FeatureRegistry) -> None:
    apply(registry, view("temp"))
    before = registry.refresh()
    assert not apply(registry, view("temp")).stages
    assert registry.refresh() is before
    assert len(registry.changes()) == 2


def test_any_past_version_can_be_looked_up(registry: FeatureRegistry) -> None:
    apply(registry, view("temp", version="1.0.0"))
    apply(registry, view("temp", "wind", version="2.0.0"), now=NOW + timedelta(days=1))
    with pytest.raises(FeatureNotFound, match="'weather:wind': view 'weather'"):
        registry.get_feature_definition("weather:wind")
    definition = registry.get_feature_definition("weather:wind", version="2.0.0")
    assert definition == registry.get_feature_definition("weather@2.0.0:wind")
    assert (definition.version, definition.created_at) == ("2.0.0", NOW + timedelta(days=1))
    FeatureVersionManager(registry).retire("weather", "2.0.0", now=NOW)
    assert registry.get_feature_definition("weather:wind", "2.0.0").feature_name == "weather:wind"
    with pytest.raises(VersionNotFound, match=r"it has 1\.0\.0, 2\.0\.0"):
        registry.get_feature_definition("weather:wind", "3.0.0")


def test_a_feature_definition_holds_everything(registry: FeatureRegistry) -> None:
    apply(registry, RICH, view("temp"))
    found = registry.get_feature_definition(RICH["a"])
    assert found.feature_name == "rich:a"
    assert (found.feature_type, found.data_type, found.description) == ("numerical", Float64, "words")
    assert (found.owner, found.tags) == ("you", {"tier": "gold", "x": "y"})
    assert (found.source_query, found.transformation_logic) == ("SELECT * FROM f", "SELECT * FROM f")
    assert found.dependencies == ("f: f.csv", "g: g")
    assert (found.freshness_sla_minutes, found.availability_sla) == (5.0, 0.99)
    assert (found.version, len(found.schema_version), found.created_at, found.updated_at) == ("1.0.0", 8, NOW, NOW)
    assert registry.get_feature_definition("rich:b").freshness_sla_minutes == 60.0
    assert registry.get_feature_definition("rich:b").owner == "me"
    assert registry.get_feature_definition("rich:b").feature_type == "embedding"
    assert registry.get_feature_definition("weather:temp").source_query == "SELECT airport, t, temp FROM push"
    with pytest.raises(AttributeError):
        found.owner = "else"  # type: ignore[misc]
    with pytest.raises(TypeError):
        found.tags["x"] = "z"  # type: ignore[index]
    assert hash(found)


@pytest.mark.parametrize(
    ("reference", "version", "said"),
    [
        ("rich", None, "not one feature"),
        ("rich:*", None, "not one feature"),
        ("rich@1.0.0:a", "2.0.0", "names version 1.0.0"),
    ],
)
def test_what_is_not_one_feature(registry: FeatureRegistry, reference: str, version: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        registry.get_feature_definition(reference, version)
    with pytest.raises(UsageError, match="one feature is wanted"):
        registry.get_feature_definition(RICH["a", "b"])


def test_pointers_move_and_the_change_log_says_who(registry: FeatureRegistry) -> None:
    apply(registry, view("temp"))
    apply(registry, view("temp", "wind", owner="x"))
    manager = FeatureVersionManager(registry, who="op")
    marks = {("weather", "1.0.0"): Watermark(5, 5)}
    assert manager.go_live(marks, now=NOW).reasons
    assert registry.refresh().revision == 2
    assert manager.go_live({**marks, ("weather", "1.1.0"): Watermark(5, 5)}, now=NOW).stages
    assert registry.refresh().views["weather"].live == "1.1.0"
    manager.rollback("weather", now=NOW)
    record = registry.refresh().views["weather"]
    assert (record.live, record.previous, record.versions["1.1.0"].held) == ("1.0.0", None, True)
    with pytest.raises(ChangeRefused):
        manager.promote("weather", "1.1.0", watermarks=marks, now=NOW)
    manager.promote("weather", "1.1.0", watermarks=marks, now=NOW, force=True)
    with pytest.raises(ChangeRefused):
        manager.retire("weather", "1.1.0", now=NOW)
    manager.retire("weather", "1.0.0", now=NOW + timedelta(days=1))
    assert FeatureRegistry(registry.engine, "flights").snapshot() == registry.refresh()
    log = [(c.revision, c.who, c.what, c.version) for c in registry.changes("weather")]
    assert log == [
        (1, "me", "apply", "1.0.0"),
        (2, "me", "apply", "1.1.0"),
        (3, "op", "go live", "1.1.0"),
        (4, "op", "roll back", "1.0.0"),
        (5, "op", "promote", "1.1.0"),
        (6, "op", "retire", "1.0.0"),
    ]
    assert registry.changes("weather")[1].details == ("feature wind added (float64)", "owner: none → x")
    assert registry.changes("weather")[5].at == NOW + timedelta(days=1)


def test_what_is_removed_is_gone_and_may_come_back(registry: FeatureRegistry) -> None:
    apply(registry, AIRPORT, view("temp"), whole=True)
    apply(registry, whole=True)
    found = registry.refresh()
    assert (found.entities, found.views["weather"].live) == ({}, None)
    apply(registry, AIRPORT, view("temp"), whole=True)
    assert registry.refresh().entities == {"airport": AIRPORT}
    assert registry.refresh().views["weather"].live == "1.0.1"


def test_a_plan_on_an_old_revision_is_a_conflict(registry: FeatureRegistry) -> None:
    stale = planned(registry, view("temp"))
    apply(registry, view("x", name="other"))
    before = registry.refresh()
    with pytest.raises(RegistryConflict, match=r"somebody changed it since this was planned \(on revision 0\)"):
        registry.apply(stale, now=NOW)
    assert registry.refresh() == before


def test_many_appliers_of_one_process(registry: FeatureRegistry) -> None:
    def add(number: int) -> None:
        while True:
            try:
                apply(registry, view("x", name=f"v{number}"))
                return
            except RegistryConflict:
                continue

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(16)))
    found = registry.refresh()
    assert sorted(found.views) == sorted(f"v{n}" for n in range(16))
    assert found.revision == 16


def test_a_snapshot_is_looked_at_anew_after_a_while(file_registry: FeatureRegistry) -> None:
    slow = FeatureRegistry(file_registry.engine, "flights", refresh=timedelta(hours=1))
    quick = FeatureRegistry(file_registry.engine, "flights", refresh=timedelta(0))
    assert slow.snapshot().revision == quick.snapshot().revision == 0
    apply(file_registry, view("temp"))
    assert slow.snapshot().revision == 0
    assert quick.snapshot().revision == 1
    assert slow.refresh().revision == 1
    assert slow.snapshot() is slow.snapshot()


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


def test_another_transaction_sees_the_registry(registry: FeatureRegistry) -> None:
    apply(registry, view("temp"))
    with writing(registry.engine) as connection:
        assert registry.revision_in(connection) == 1
        assert registry.snapshot_in(connection) == registry._snapshot


def test_settings_are_stored_once(registry: FeatureRegistry) -> None:
    assert registry.setting("log") is None
    first = registry.get_or_set("log")
    assert registry.get_or_set("log") == first == registry.setting("log")
    assert registry.get_or_set("other", "x") == "x"
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda n: registry.get_or_set("raced", str(n)), range(16)))) == 1


def test_a_registry_belongs_to_one_project(registry: FeatureRegistry) -> None:
    with pytest.raises(RegistryError, match="belongs to project 'flights', not 'trains'"):
        FeatureRegistry(registry.engine, "trains")


def test_watermarks_are_mirrored_without_a_revision(registry: FeatureRegistry) -> None:
    later = NOW + timedelta(hours=1)
    registry.record_watermarks({("w", "1.0.0"): Watermark(1, 2), ("w", "2.0.0"): Watermark()}, now=NOW)
    registry.record_watermarks({("w", "1.0.0"): Watermark(3, 4)}, now=later)
    registry.record_watermarks({}, now=later)
    assert registry.watermarks() == {("w", "1.0.0"): (Watermark(3, 4), later), ("w", "2.0.0"): (Watermark(), NOW)}
    assert registry.refresh().revision == 0


def test_leases(registry: FeatureRegistry) -> None:
    time = [NOW]
    leases = Leases(registry.engine, lambda: time[0])
    first = leases.acquire("write", "weather", holder="host:1", lasts=timedelta(minutes=1))
    time[0] += timedelta(seconds=30)
    with leases.held("run", lasts=timedelta(minutes=1)) as run:
        assert leases.running() == [first, run]
        assert leases.running("write") == [first]
        assert first.started_at == NOW
        time[0] += timedelta(seconds=31)
        assert leases.running() == [run]
        assert not leases.renew(first, lasts=timedelta(minutes=1))
        assert leases.renew(run, lasts=timedelta(minutes=5))
        time[0] += timedelta(minutes=4)
        assert [lease.id for lease in leases.running()] == [run.id]
    assert leases.running() == []
    leases.release(first)
    time[0] += timedelta(hours=1)
    leases.acquire("write", lasts=timedelta(minutes=1))
    with reading(registry.engine) as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(tables.leases)).scalar() == 1


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

    def test_steps_are_run_once_and_in_order(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        open_registry(FILE, tmp_path, "p").close()
        more = (*migrations.STEPS, ("ALTER TABLE registry_entity ADD COLUMN extra TEXT",))
        monkeypatch.setattr(migrations, "STEPS", more)
        for _ in range(2):
            open_registry(FILE, tmp_path, "p").close()
        with sqlite3.connect(tmp_path / ".headwater/registry.db") as connection:
            assert connection.execute("SELECT version FROM registry_schema ORDER BY 1").fetchall() == [(1,), (2,)]
            connection.execute("SELECT extra FROM registry_entity")

    def test_a_step_that_fails_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        open_registry(FILE, tmp_path, "p").close()
        more = (*migrations.STEPS, ("CREATE TABLE half (x INTEGER)", "SELECT nothing FROM nowhere"))
        with monkeypatch.context() as patched:
            patched.setattr(migrations, "STEPS", more)
            with pytest.raises(Unavailable):
                open_registry(FILE, tmp_path, "p")
        with sqlite3.connect(tmp_path / ".headwater/registry.db") as connection:
            assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'half'").fetchall() == []
        open_registry(FILE, tmp_path, "p").close()

    def test_a_newer_schema_is_refused(self, tmp_path: Path) -> None:
        open_registry(FILE, tmp_path, "p").close()
        with sqlite3.connect(tmp_path / ".headwater/registry.db") as connection:
            connection.execute("INSERT INTO registry_schema VALUES (99, 0)")
        with pytest.raises(FormatError, match="has schema 99, this headwater knows up to 1: upgrade"):
            open_registry(FILE, tmp_path, "p")

    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        (tmp_path / "x.db").write_bytes(b"not a database" * 100)
        with pytest.raises(FormatError, match="no headwater registry"):
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
        with pytest.raises(StoreReadOnly, match="its folder cannot be made"):
            open_registry(FILE, tmp_path, "p")

    def test_a_writer_that_holds_it_for_long_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("headwater.registry.transactions.BUSY_SECONDS", 0.2)
        registry = open_registry(FILE, tmp_path, "p")
        with sqlite3.connect(tmp_path / ".headwater/registry.db", isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="another process held it"):
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
        with pytest.raises(Exception, match="no room left"):
            for number in range(200):
                apply(file_registry, view(*(f"f{n}" for n in range(50)), name=f"v{number}"))
        found = file_registry.refresh()
        assert FeatureRegistry(file_registry.engine, "flights").snapshot() == found
        assert found.views["weather"].live == "1.0.0"

    def test_memory_is_each_stores_own(self, tmp_path: Path) -> None:
        one, other = (open_registry("sqlite://", tmp_path, "p") for _ in range(2))
        apply(one, view("temp"))
        assert other.refresh().revision == 0
        assert list(tmp_path.iterdir()) == []

    def test_a_child_process_opens_connections_of_its_own(self, file_registry: FeatureRegistry) -> None:
        apply(file_registry, view("temp"))
        pid = os.fork()
        if pid == 0:
            try:
                apply(file_registry, view("x", name="child"))
                os._exit(0)
            except BaseException:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        apply(file_registry, view("x", name="parent"))
        assert set(file_registry.refresh().views) == {"weather", "child", "parent"}


READ_ONLY = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from headwater.errors import StoreReadOnly
from headwater.planning.diff import plan
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
        said = subprocess.run([sys.executable, "-c", READ_ONLY, folder], capture_output=True, text=True)
        registry.close()
        Path(folder).chmod(0o755)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith(f"['weather']\nrefused: registry {Path(folder) / 'registry.db'}: ")
    assert "takes no writes" in said.stdout
