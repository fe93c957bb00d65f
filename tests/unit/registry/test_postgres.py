"""What is PostgreSQL's own of the registry and the log's head: outages, waits, rights, its clock, passwords."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from headwater.clock import MIN_MICROS
from headwater.database import postgres, sqlite
from headwater.database.database import ReadsOf
from headwater.database.engine import open_engine
from headwater.database.transactions import reading, writing
from headwater.errors import ConfigError, RegistryConflict, StoreError, StoreReadOnly, Unavailable
from headwater.offline.log.log import OfflineLog
from headwater.planning.watermark import Watermark
from headwater.registry.leases import Leases
from headwater.registry.registry import open_registry
from headwater.testing.log_suite import content, group, rows
from headwater.testing.registry_suite import THING, apply, planned, view_of
from headwater.urls import without_password
from tests.servers.postgres import GUARDED, PASSWORD, PostgresServer
from tests.servers.waiting import at_most, wait_until

LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


@pytest.fixture
def engine(postgres_url: str, tmp_path: Path) -> Iterator[sa.Engine]:
    engine = open_engine(postgres_url, tmp_path)
    yield engine
    engine.dispose()


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


def opened(url: str, folder: Path):
    return open_registry(url, folder, "flights", refresh=timedelta(0))


def test_a_restart_of_the_server_is_not_noticed_and_an_outage_is_told_at_once(own_server, tmp_path):
    registry = opened(own_server.url(own_server.make_database()), tmp_path)
    apply(registry, [view_of("a")])
    log = OfflineLog(registry.engine, tmp_path / "log", lambda: LONG_AGO)
    log.append("v", [group(rows(["a"], [1.0]))])
    for end in (own_server.stop, own_server.kill):
        before = content(log, "v")
        end()
        with at_most(5):
            with pytest.raises(Unavailable, match="cannot be used"):
                log.append("v", [group(rows(["lost"], [1.0]))])
            with pytest.raises(Unavailable):
                registry.refresh()
        assert registry.snapshot().views["v"].live == "1.0.0"  # as it was read last: serving goes on
        own_server.start()
        assert content(log, "v") == before
        log.append("v", [group(rows(["b"], [2.0]))])
        apply(registry, [view_of("a", name=f"w{len(before)}")])
    assert [key for _, key, _ in content(log, "v")] == ["a", "b", "b"]
    registry.close()


def test_a_connection_that_ends_in_mid_transaction_undoes_it(engine, tmp_path):
    log = OfflineLog(engine, tmp_path / "log", lambda: LONG_AGO)
    with pytest.raises(Unavailable, match="the outcome is unknown"), writing(engine) as connection:
        connection.execute(sa.text("UPDATE log_counter SET position = 99"))
        end_connection(engine, connection)
    assert log.head_position() == 0
    with pytest.raises(Unavailable), writing(engine) as connection:
        end_connection(engine, connection)
        connection.execute(sa.text("UPDATE log_counter SET position = 99"))
    assert log.append("v", [group(rows(["a"], [1.0]))])[0].table.column("__position").to_pylist() == [1]


def end_connection(engine: sa.Engine, connection: sa.Connection) -> None:
    pid = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar()
    with engine.connect() as other:
        other.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})


@pytest.mark.parametrize("reads", range(6))
def test_others_that_apply_between_the_reads_of_an_apply_are_a_conflict(postgres_url, tmp_path, monkeypatch, reads):
    mine, theirs = opened(postgres_url, tmp_path), opened(postgres_url, tmp_path)
    apply(mine, [view_of("a")])
    made = planned(mine, [view_of("a", name="mine")])
    of_apply, seen, names = ReadsOf.rows, [], []

    def rows_and_then(self, sql):
        found = of_apply(self, sql)
        seen.append(sql)
        if len(seen) > reads:
            with monkeypatch.context() as apart:
                apart.setattr(ReadsOf, "rows", of_apply)
                names.append(f"theirs{len(names)}")
                apply(theirs, [view_of("a", name=names[-1])])
        return found

    with monkeypatch.context() as watched:
        watched.setattr(ReadsOf, "rows", rows_and_then)
        try:
            mine.apply(made, now=LONG_AGO, log_head=0)
            ours = ["mine"]
        except RegistryConflict:
            ours = []
    assert set(mine.refresh().views) == {"v", *names, *ours}
    mine.close(), theirs.close()


def appended(log: OfflineLog) -> bool:
    with suppress(Unavailable):
        log.append("v", [group(rows(["c"], [1.0]))])
        return True
    return False


def test_a_lock_that_another_holds_is_waited_for_a_bounded_time(postgres_url, tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 1.0)
    mine, theirs = open_engine(postgres_url, tmp_path), open_engine(postgres_url, tmp_path)
    log, other = (OfflineLog(engine, tmp_path / "log", lambda: LONG_AGO) for engine in (mine, theirs))
    stuck, told = threading.Event(), threading.Event()

    def stand_still(_: sa.Connection) -> None:
        stuck.set()
        told.wait(100)

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(other.append, "v", [group(rows(["a"], [1.0]))], (), stand_still)
        stuck.wait(60)
        with pytest.raises(Unavailable, match="locked by another process"):
            log.append("v", [group(rows(["b"], [1.0]))])
        # the one that stands still loses its lock after a while
        wait_until(lambda: appended(log), "the lock to be free again")
        told.set()
        with pytest.raises(Unavailable):
            held.result()
    assert content(log, "v") == [(1, "c", 1.0)]
    mine.dispose(), theirs.dispose()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that stands still, as one whose disk does not answer."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("way", [reading, writing])
def test_a_server_that_stands_still_in_mid_transaction_is_given_up(own_server, tmp_path, monkeypatch, way):
    monkeypatch.setattr(postgres, "ANSWER_SECONDS", 0.5)
    registry = opened(own_server.url(own_server.make_database()), tmp_path)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="no response within"), way(registry.engine) as connection:
        pid = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        with stopped(pid):
            connection.execute(sa.text("SELECT 1"))
    assert time.monotonic() - began < 60
    assert registry.refresh().views == {}
    registry.close()


def test_a_server_that_does_not_answer_holds_no_reader_up(own_server, tmp_path):
    registry = open_registry(own_server.url(own_server.make_database()), tmp_path, "flights", refresh=timedelta(0))
    apply(registry, [view_of("a")])
    known = registry.snapshot()
    # a new connection is accepted by the kernel and answered by nobody
    registry.engine.dispose()
    took = []

    def read(_: int) -> None:
        began = time.monotonic()
        assert registry.snapshot() is known
        took.append(time.monotonic() - began)

    with stopped(own_server.pid), ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(16)))
        assert max(took) < 3
        assert registry.unseen > 0
    wait_until(lambda: registry.snapshot() is not None and registry.unseen == 0, "an answer")
    apply(registry, [view_of("a", "b")])
    registry.close()


def test_hosts_that_come_to_an_empty_database_at_once_make_it_once(postgres_url, tmp_path):
    start = threading.Barrier(8)

    def come(number: int) -> str:
        start.wait()
        registry = opened(postgres_url, tmp_path)
        log = OfflineLog(registry.engine, tmp_path / "log", lambda: LONG_AGO)
        log.append("v", [group(rows([str(number)], [1.0]))])
        registry.close()
        return log.log_id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(come, range(8)))) == 1
    engine = open_engine(postgres_url, tmp_path)
    assert len(content(OfflineLog(engine, tmp_path / "log", lambda: LONG_AGO), "v")) == 8
    engine.dispose()


def test_a_user_without_rights_reads_and_is_told_why_it_cannot_write(postgres_server, tmp_path):
    database = postgres_server.make_database()
    registry = opened(postgres_server.url(database), tmp_path)
    apply(registry, [view_of("a")])
    OfflineLog(registry.engine, tmp_path / "log", lambda: LONG_AGO)
    postgres_server.make_guarded(database)
    guarded = opened(postgres_server.url(database, GUARDED), tmp_path)
    assert set(guarded.refresh().views) == {"v"}
    with pytest.raises(StoreReadOnly, match="rights") as told:
        apply(guarded, [view_of("a", name="w")])
    assert PASSWORD not in str(told.value) + repr(guarded) + repr(guarded.engine)
    with pytest.raises(StoreReadOnly):
        OfflineLog(guarded.engine, None, lambda: LONG_AGO).append("v", [group(rows(["a"], [1.0]))])
    guarded.close(), registry.close()
    postgres_server.drop_database(database)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://{user}:wr0ng-s3cret@127.0.0.1:{port}/{database}",
        "postgresql+psycopg://127.0.0.1:{port}/{database}?user={user}&password=wr0ng-s3cret",
    ],
)
def test_a_wrong_password_is_told_and_not_shown(postgres_server, postgres_url, tmp_path, url):
    database = postgres_url.rpartition("/")[2]
    postgres_server.make_guarded(database)
    url = url.format(user=GUARDED, port=postgres_server.port, database=database)
    with pytest.raises(Unavailable, match="password authentication failed") as told:
        opened(url, tmp_path)
    chain = told.value
    while chain is not None:
        assert "wr0ng" not in str(chain)
        chain = chain.__cause__
    assert "wr0ng" not in repr(open_engine(url, tmp_path))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:s3cret@host:port/db",
        "postgres+psycopg://me:s3c@ret@host/db",
        "mysql://me:s3cret@host/db?sslpassword=s3cret",
        "postgresql+psycopg//me:s3cret@host",
    ],
)
def test_a_url_that_cannot_be_read_is_told_without_its_password(tmp_path, url):
    with pytest.raises(ConfigError, match=r"postgresql\+psycopg://user:password@host/db") as told:
        open_engine(url, tmp_path)
    assert "s3c" not in str(told.value) and "ret@" not in str(told.value)


def test_urls_are_shown_without_what_is_secret():
    assert without_password("redis://u:pass@h:1/0?tls=true") == "redis://u:***@h:1/0?tls=true"
    assert without_password("redis://u:p@ss@h:1/0?tls=true") == "redis://***"
    assert without_password("postgresql://h/db?user=u&password=x&sslpassword=y&z=1") == (
        "postgresql://h/db?user=u&password=***&sslpassword=***&z=***"
    )
    assert without_password("sqlite:///a/b.db") == "sqlite:///a/b.db"


def test_arrivals_deletes_and_leases_are_stamped_by_the_server_whatever_the_hosts_clocks_say(engine, tmp_path):
    registry = open_registry(engine.url.render_as_string(hide_password=False), tmp_path, "flights")
    logs = [
        OfflineLog(engine, tmp_path / "log", lambda at=at: at) for at in (LONG_AGO, datetime(2199, 1, 1, tzinfo=UTC))
    ]
    before = time.time_ns() // 1000 - 1
    arrivals = [
        log.append("v", [group(rows(["a"], [1.0]))])[0].table.column("__arrival")[0].as_py() for log in logs * 2
    ]
    through = logs[0].delete("v", pa.table({"k": ["a"]}), [MIN_MICROS]).through[0]
    leases = [Leases(engine, lambda at=at: at) for at in (LONG_AGO, datetime(2199, 1, 1, tzinfo=UTC))]
    mine = [one.acquire("run", lasts=timedelta(minutes=1)) for one in leases]
    assert leases[0].running() == leases[1].running() == mine
    times = [before, *arrivals, through, *(int(lease.started_at.timestamp() * 1e6) + 1 for lease in mine)]
    assert times == sorted(times) and times[-1] < before + 60_000_000
    registry.close()


def test_no_position_is_seen_before_a_smaller_one(engine, tmp_path):
    log = OfflineLog(engine, tmp_path / "log", lambda: LONG_AGO)
    other = OfflineLog(open_engine(str(engine.url), tmp_path), tmp_path / "log", lambda: LONG_AGO)
    inside, go_on = threading.Event(), threading.Event()

    def pause(_: sa.Connection) -> None:
        inside.set()
        go_on.wait(60)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(log.append, "v", [group(rows(["a"], [1.0]))], (), pause)
        inside.wait(60)
        second = pool.submit(other.append, "w", [group(rows(["b"], [2.0]))])
        time.sleep(0.1)
        assert not second.done() and other.head_position() == 0
        go_on.set()
        first.result(), second.result()
    assert (content(other, "v"), content(log, "w")) == ([(1, "a", 1.0)], [(2, "b", 2.0)])
    other._engine.dispose()


def test_an_apply_that_comes_while_rows_are_written_waits_for_nobody_and_is_seen_by_the_next(engine, tmp_path):
    registry = open_registry(str(engine.url), tmp_path, "conformance", refresh=timedelta(0))
    plans = [planned(registry, [THING, view_of("a", name=name)]) for name in ("v", "w")]
    registry.apply(plans[0], now=LONG_AGO)
    with pytest.raises(RegistryConflict):
        registry.apply(plans[1], now=LONG_AGO)
    with writing(engine) as connection:
        connection.execute(sa.text("SELECT 1"))
        apply(registry, [view_of("a", name="w")])
        assert registry.revision_in(connection) == 2
    registry.close()


def test_runs_that_note_the_same_watermarks_at_once_both_do(postgres_url, tmp_path):
    names = [(f"v{i}", "1.0.0") for i in range(20)]
    start = threading.Barrier(4)

    def note(number: int) -> None:
        registry = opened(postgres_url, tmp_path)
        start.wait()
        for i in range(5):
            some = names if number % 2 else list(reversed(names))
            registry.record_watermarks({name: Watermark(i, i) for name in some}, now=LONG_AGO)
        registry.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(note, range(4)))
    registry = opened(postgres_url, tmp_path)
    assert {mark.end for mark, _ in registry.watermarks().values()} == {4} and len(registry.watermarks()) == 20
    registry.close()


def test_a_database_that_is_not_there_is_told(postgres_server, tmp_path):
    with pytest.raises(StoreError, match="does not exist"):
        opened(postgres_server.url(f"none{uuid.uuid4().hex[:6]}"), tmp_path)
