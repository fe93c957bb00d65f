"""Connections on both sides of a fork, and after a close."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from headwater import forks
from headwater.database import connections
from headwater.database.engine import open_engine
from headwater.database.transactions import reading, writing
from headwater.errors import Unavailable
from tests.children import Child, problem_in_child


@pytest.fixture(params=["file", "memory", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    url = {"file": "sqlite:///some.db", "memory": "sqlite://"}.get(request.param)
    made = open_engine(url or request.getfixturevalue("postgres_url"), tmp_path)
    with writing(made) as connection:
        connection.execute(sa.text("CREATE TABLE t (x INTEGER PRIMARY KEY)"))
    yield made
    made.dispose()


@pytest.fixture
def file_engine(tmp_path: Path) -> Iterator[sa.Engine]:
    made = open_engine("sqlite:///some.db", tmp_path)
    with writing(made) as connection:
        connection.execute(sa.text("CREATE TABLE t (x INTEGER PRIMARY KEY)"))
    yield made
    made.dispose()


def add(engine: sa.Engine, *values: int) -> None:
    with writing(engine) as connection:
        for value in values:
            connection.execute(sa.text("INSERT INTO t VALUES (:x)"), {"x": value})


def count(engine: sa.Engine) -> int:
    with reading(engine) as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM t")).scalar_one())


def held_locks(pid: int) -> int:
    """How many locks of files a process holds."""
    return sum(f" {pid} " in line for line in Path("/proc/locks").read_text().splitlines())


def test_parent_and_child_both_go_on_while_threads_write_and_read(engine):
    stop, written = threading.Event(), [0]

    def write() -> None:
        while not stop.is_set():
            add(engine, 10_000 + written[0])
            written[0] += 1
            time.sleep(0.001)

    def read() -> None:
        while not stop.is_set():
            count(engine)

    threads = [threading.Thread(target=work) for work in (write, read, read)]
    for thread in threads:
        thread.start()

    def child(n: int) -> None:
        add(engine, n)
        assert count(engine) >= 1

        def grandchild() -> None:
            add(engine, 1_000 + n)

        assert problem_in_child(grandchild) == ""
        add(engine, 2_000 + n)

    children = []
    for n in range(6):
        children.append(Child(lambda n=n: child(n)))
        add(engine, 3_000 + n)
    problems = [one.problem() for one in children]
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == [""] * 6
    shared = engine.url.database is not None
    assert count(engine) == written[0] + (4 if shared else 1) * 6


def test_threads_that_never_pause_starve_no_other(engine):
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            count(engine)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    waited = []
    for n in range(20):
        began = time.monotonic()
        add(engine, n)
        waited.append(time.monotonic() - began)
    stop.set()
    for thread in threads:
        thread.join()
    assert max(waited) < 5


def test_a_child_holds_locks_of_its_own(file_engine):
    def child() -> None:
        with reading(file_engine) as connection:
            connection.execute(sa.text("SELECT * FROM t")).all()
            assert held_locks(os.getpid()) >= 2

    add(file_engine, 1)
    with ExitStack() as stack:
        for _ in range(2):  # connections that stand idle in the pool
            stack.enter_context(reading(file_engine))
    assert problem_in_child(child) == ""


def test_a_fork_waits_for_the_transactions_of_other_threads(file_engine):
    begun, go_on = threading.Event(), threading.Event()

    def write() -> None:
        with writing(file_engine) as connection:
            connection.execute(sa.text("INSERT INTO t VALUES (1)"))
            begun.set()
            go_on.wait()

    writer = threading.Thread(target=write)
    writer.start()
    begun.wait()
    threading.Timer(0.2, go_on.set).start()

    def child() -> None:
        assert count(file_engine) == 1
        add(file_engine, 2)

    assert problem_in_child(child) == ""
    writer.join()
    assert count(file_engine) == 2


@pytest.mark.parametrize("who", ["another thread", "this thread"])
def test_a_child_of_a_transaction_that_did_not_end_in_time_is_refused(engine, monkeypatch, who):
    monkeypatch.setattr(forks, "PATIENCE", 0.05)
    begun, go_on = threading.Event(), threading.Event()
    server = engine.dialect.name == "postgresql"

    def child() -> None:
        if server:
            assert count(engine) == 0
            return
        for work in (lambda: add(engine, 2), lambda: count(engine)):
            with pytest.raises(Unavailable, match="this process was forked within a transaction of its parent"):
                work()
        connections.close(engine)

    def write() -> None:
        with writing(engine) as connection:
            connection.execute(sa.text("INSERT INTO t VALUES (1)"))
            begun.set()
            go_on.wait()

    if who == "this thread":
        with writing(engine) as connection:
            connection.execute(sa.text("INSERT INTO t VALUES (1)"))
            problem = problem_in_child(child)
    else:
        writer = threading.Thread(target=write)
        writer.start()
        begun.wait()
        problem = problem_in_child(child)
        go_on.set()
        writer.join()
    assert problem == ""
    assert count(engine) == 1
    # the next fork is as any other
    assert problem_in_child(lambda: add(engine, 3)) == ""


def test_other_files_opened_in_such_a_child_are_refused_by_their_name_alone(file_engine, tmp_path):
    def child() -> None:
        with pytest.raises(Unavailable, match="forked within a transaction"):
            count(open_engine("sqlite:///some.db", tmp_path))
        with writing(open_engine("sqlite:///other.db", tmp_path)) as connection:
            connection.execute(sa.text("CREATE TABLE t (x INTEGER PRIMARY KEY)"))

    with writing(file_engine):
        assert problem_in_child(child) == ""


def test_one_transaction_within_another_does_not_wait_for_a_fork(file_engine):
    inside, asked, done = threading.Event(), threading.Event(), threading.Event()

    def nested() -> None:
        with reading(file_engine):
            inside.set()
            asked.wait()
            with reading(file_engine) as connection:
                connection.execute(sa.text("SELECT 1"))
        done.set()

    thread = threading.Thread(target=nested)
    thread.start()
    inside.wait()
    threading.Timer(0.1, asked.set).start()
    assert problem_in_child(lambda: count(file_engine)) == ""
    assert done.wait(60)
    thread.join()


def test_what_was_closed_is_refused_and_a_transaction_under_way_ends(engine):
    with writing(engine) as connection:
        connection.execute(sa.text("INSERT INTO t VALUES (1)"))
        connections.close(engine)
    with pytest.raises(Unavailable, match="was closed"):
        count(engine)
    connections.close(engine)


def test_connections_that_the_pool_has_lost_are_replaced(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where Ctrl-C comes within the pool, once it has lent one and before somebody has it."""
    add(engine, 1)
    pool = engine.pool
    assert isinstance(pool, sa.QueuePool)
    monkeypatch.setattr(pool, "_timeout", 0.05)
    lost = []
    with pytest.raises(sa.exc.TimeoutError):
        while True:
            lost.append(pool._do_get())
    add(engine, 2)
    assert count(engine) == 2


def test_connections_that_are_in_use_are_waited_for(file_engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    add(file_engine, 1)
    monkeypatch.setattr(file_engine.pool, "_timeout", 0.05)
    with ExitStack() as users:
        pool = file_engine.pool
        with pytest.raises(Unavailable, match="all connections are in use"):
            while True:
                users.enter_context(reading(file_engine))
        assert file_engine.pool is pool
    add(file_engine, 2)
    assert count(file_engine) == 2
