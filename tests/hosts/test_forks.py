"""After a fork parent and child both go on, on every store, whatever other threads were at; a child ends in peace."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import headwater as hw
from headwater.errors import Unavailable
from headwater.testing import SCALE
from tests.children import SECONDS as PATIENCE
from tests.children import Child, fork_in_c, problem_in_child, run_program
from tests.hosts.forking import EVENTS, FEATURES, KEYS, PROFILES, T0, USER, Work, busy, make_project


@pytest.fixture(params=["lmdb", "memory", "redis on postgresql", "dynamodb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[hw.FeatureStore]:
    make_project(tmp_path)
    urls: dict[str, str] = {}
    if request.param == "memory":
        urls = {"online": "memory:"}
    elif request.param == "dynamodb":
        urls = {"online": request.getfixturevalue("dynamodb_server").url(timeout=20)}
    elif request.param != "lmdb":
        server = request.getfixturevalue("redis_server")
        server.client.flushall()
        urls = {"online": server.url, "registry": request.getfixturevalue("postgres_url")}
    with hw.FeatureStore(tmp_path, **urls) as made:  # type: ignore[arg-type]
        made.apply([USER, EVENTS, PROFILES])
        made.materialize()
        yield made


@pytest.fixture
def local(tmp_path: Path) -> Iterator[hw.FeatureStore]:
    """A store on LMDB, SQLite and DuckDB."""
    make_project(tmp_path)
    with hw.FeatureStore(tmp_path) as made:
        made.apply([USER, EVENTS, PROFILES])
        made.materialize()
        yield made


@pytest.mark.one_in(2, turn=0)
def test_parent_child_and_grandchild_go_on_while_threads_do_everything(store):
    work = Work(store)

    def child(n: int) -> None:
        work.all(n)
        assert problem_in_child(lambda: work.all(n + 1), 2 * PATIENCE) == ""
        work.read()
        if n % 2:
            store.close()
            with pytest.raises(Unavailable, match="was closed"):
                store.get_online_features(FEATURES, [1])

    with busy(work.read, work.write, work.history, work.materialize):
        children = [Child(lambda n=n: child(n)) for n in range(2)]
        problems = [one.problem(4 * PATIENCE) for one in children]
    assert problems == [""] * 2
    work.all()


@pytest.mark.one_in(2, turn=0)
def test_parent_and_child_go_on_where_a_program_forks_without_telling_python(store):
    work = Work(store)
    work.all()
    embedded = "lmdb" in store.settings.online_url

    def child(n: int) -> None:
        work.history()
        if embedded:
            for call in (work.read, work.write, work.materialize):
                with pytest.raises(Unavailable, match=r"forked by a program that does not tell Python .*lazy"):
                    call()
        else:
            work.all(n)
            assert problem_in_child(work.all) == ""
        store.close()

    for n in range(2):
        assert Child(lambda n=n: child(n), fork_in_c).problem(2 * PATIENCE) == ""
        work.all(n)


def test_a_store_that_was_not_used_before_such_a_fork_is_each_process_own(tmp_path):
    make_project(tmp_path)
    with hw.FeatureStore(tmp_path) as first:
        first.apply([USER, EVENTS, PROFILES])
        first.materialize()
    with hw.FeatureStore(tmp_path) as store:
        children = [Child(Work(store).all, fork_in_c) for _ in range(2)]
        assert [child.problem(2 * PATIENCE) for child in children] == ["", ""]
        Work(store).all()


@pytest.mark.one_in(2, turn=1)
def test_a_child_of_such_a_fork_beside_busy_threads_goes_on_or_says_that_it_was_forked(store):
    work = Work(store)

    def child(n: int) -> None:
        for call in (work.read, work.write, work.history)[n % 3 :]:
            with suppress(Unavailable):
                call()

    count = 3 if SCALE == 1 else 6
    with busy(work.read, work.write, work.history):
        children = [Child(lambda n=n: child(n), fork_in_c) for n in range(count)]
        problems = [one.problem(2 * PATIENCE) for one in children]
    assert problems == [""] * count
    work.all()


def test_what_children_write_is_in_the_parents_log_and_store(local):
    def child(n: int) -> None:
        local.write("events", [{"user": n, "at": T0, "seen": 100 + n}])

    with busy(Work(local).write):
        problems = [problem_in_child(lambda n=n: child(n)) for n in range(KEYS, KEYS + 6)]
    assert problems == [""] * 6
    assert local.get_online_features(["events:seen"], list(range(KEYS, KEYS + 6))).to_dict()["seen"] == [
        100 + n for n in range(KEYS, KEYS + 6)
    ]
    known = local.get_historical_features(None, ["events:seen"], at="2027-01-01").to_arrow().to_pylist()
    assert {row["user"]: row["seen"] for row in known}.items() >= {n: 100 + n for n in range(KEYS, KEYS + 6)}.items()


ENDS = """
import os, sys, threading, time
import headwater as hw
from tests.hosts.forking import Work, rest

store = hw.FeatureStore(sys.argv[1])
work = Work(store)
work.all()
stop = threading.Event()

def busy(what):
    took = 0.0
    while not stop.wait(rest(took)):
        began = time.monotonic()
        what()
        took = time.monotonic() - began

threads = [threading.Thread(target=busy, args=(what,)) for what in (work.history, work.read, work.write)]
for thread in threads:
    thread.start()
for n, how in enumerate(sys.argv[2:]):
    child = os.fork()
    if not child:
        if n % 2:
            work.all(n)
        if how == "sys.exit":
            sys.exit(0)
        if how == "os._exit":
            os._exit(0)
        if how == "close":
            store.close()
        if how == "with":
            with store:
                pass
        if how == "del":
            del store, work
        if how == "error":
            sys.excepthook = lambda *_: None
            raise KeyError
        break
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended == (1 if how == "error" else 0), (how, ended)
else:
    stop.set()
    for thread in threads:
        thread.join()
    work.all()
    store.close()
    print("done")
"""


def test_a_child_ends_without_a_crash_a_word_or_an_effect_on_its_parent(local, tmp_path):
    root = str(Path(__file__).parents[2])
    text = f"import sys; sys.path.insert(0, {root!r})\n{ENDS}"
    ends = ["sys.exit", "os._exit", "close", "with", "del", "error", "falls off the end"]
    if SCALE > 1:
        ends += ["sys.exit", "close"]  # once more after work in the child
    assert run_program(text, tmp_path, tmp_path, *ends, seconds=4 * PATIENCE) == ["done"]


def test_a_history_that_was_being_read_goes_on_in_the_parent_and_is_read_again_in_the_child(local):
    result = local.get_historical_features(None, FEATURES, at="2027-01-01")
    batches = result.to_batches(7)
    first = next(batches)

    def go_on() -> None:
        with pytest.raises(Unavailable, match="begun before this process was forked"):
            next(batches)

    def again() -> None:
        assert next(result.to_batches(7)) == first
        assert result.to_arrow().num_rows == 50

    def leave() -> None:
        batches.close()

    assert [problem_in_child(work) for work in (go_on, again, leave)] == ["", "", ""]
    assert first.num_rows + sum(batch.num_rows for batch in batches) == 50


def test_a_fork_out_of_an_observer_leaves_the_run_to_the_parent(tmp_path):
    make_project(tmp_path)
    problems: list[str] = []

    def observe(_: object) -> None:
        if not problems:
            problems.append(problem_in_child(lambda: None))

    with hw.FeatureStore(tmp_path, observer=observe) as store:
        store.apply([USER, EVENTS, PROFILES])
        assert store.materialize()["profiles"].keys == 50
        Work(store).all()
    assert problems == [""]


def test_a_prepared_reader_of_shared_round_trips_goes_on(tmp_path, redis_server):
    make_project(tmp_path)
    redis_server.client.flushall()
    (tmp_path / "headwater.toml").write_text(
        f'[online]\nurl = "{redis_server.url}"\ncoalesce = true\ncache = "10ms"\nbreaker = 5\n'
    )
    with hw.FeatureStore(tmp_path) as store:
        store.apply([USER, EVENTS, PROFILES])
        store.materialize()
        reader = store.prepare(FEATURES)

        def read() -> None:
            assert reader.read([1, 2]).to_dict()["score"] == [0.5, 1.0]

        def child() -> None:
            for _ in range(20):
                read()

        with busy(read, read, read, read):
            problems = [problem_in_child(child) for _ in range(8)]
        assert problems == [""] * 8


def test_reads_that_refresh_and_hint_start_threads_of_their_own_in_a_child(tmp_path):
    make_project(tmp_path)
    view = hw.FeatureView(
        "profiles",
        entity=USER,
        source=hw.ParquetSource("profiles.parquet", event_time="at"),
        features=[hw.Feature("score", hw.Float64, freshness_sla="1s")],
    )
    (tmp_path / "headwater.toml").write_text("[freshness]\nrefresh = true\nrefresh_worker = true\n")
    with hw.FeatureStore(tmp_path) as store:
        store.apply([USER, view])
        store.materialize()

        def read(stale: str) -> None:
            found = store.get_online_features(["profiles:score"], [1, 2], stale=stale)
            assert found.to_dict()["score"] == [0.5, 1.0]

        def child() -> None:
            read("flag")
            read("refresh")
            store.close()

        with busy(lambda: read("flag"), lambda: read("refresh")):
            problems = [problem_in_child(child) for _ in range(4)]
        assert problems == [""] * 4


@pytest.mark.parametrize("kind", ["redis", "dynamodb", "lmdb"])
def test_an_asynchronous_store_goes_on_in_the_parents_loop_and_in_one_of_the_childs(request, tmp_path, kind):
    make_project(tmp_path)
    options = {}
    if kind == "redis":
        request.getfixturevalue("redis_server").client.flushall()
        options = {"online": request.getfixturevalue("redis_server").url}
    elif kind == "dynamodb":
        options = {"online": request.getfixturevalue("dynamodb_server").url(timeout=20)}

    async def main() -> list[str]:
        store = hw.AsyncFeatureStore(tmp_path, **options)
        await store.apply([USER, EVENTS, PROFILES])
        await store.materialize()

        async def read() -> None:
            found = await store.get_online_features(FEATURES, [1, 2])
            assert found.to_dict()["score"] == [0.5, 1.0]

        async def child(close: bool) -> None:
            await asyncio.gather(read(), read())
            if close:
                await store.close()

        async def keep_on(until: asyncio.Event) -> int:
            count = 0
            while not until.is_set():
                await read()
                await asyncio.sleep(0)
                count += 1
            return count

        until = asyncio.Event()
        reading = [asyncio.create_task(keep_on(until)) for _ in range(3)]
        await asyncio.sleep(0.1)
        problems = []
        for n in range(4):
            one = Child(lambda n=n: n == 3 or _in_own_loop(child(n % 2 == 0)))
            problems.append(await asyncio.to_thread(one.problem))
            await read()
        until.set()
        assert all(count > 1 for count in await asyncio.gather(*reading))
        await store.close()
        return problems

    assert asyncio.run(main()) == [""] * 4


def _in_own_loop(work) -> None:
    # what `asyncio.run` does in a process that was forked out of a running loop
    asyncio.events._set_running_loop(None)
    asyncio.run(work)


def test_a_child_of_a_killed_parent_goes_on(local, tmp_path):
    telling, told = os.pipe()
    work = Work(local)
    parent = os.fork()
    if not parent:
        work.history()
        if not os.fork():
            os.kill(os.getppid(), signal.SIGKILL)
            try:
                work.all()
                os.write(told, b"well")
            finally:
                os._exit(0)
        signal.pause()
    os.waitpid(parent, 0)
    os.close(told)
    with os.fdopen(telling, "rb") as said:
        assert said.read() == b"well"
    work.all()
