"""A store that is closed, or a call that is broken off, leaves no hanging call, thread or temporary file."""

from __future__ import annotations

import gc
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import headwater as hw
from headwater.errors import HeadwaterError, Unavailable
from tests.hosts.forking import EVENTS, FEATURES, PROFILES, USER, Work, make_project
from tests.servers.waiting import at_most

pytestmark = pytest.mark.one_in(2)

Open = Callable[[], hw.FeatureStore]


@pytest.fixture(params=["lmdb", "memory", "redis on postgresql", "dynamodb"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens a store that has its definitions and rows; temporary files go below the test's folder."""
    make_project(tmp_path)
    (tmp_path / "temp").mkdir()
    urls: dict[str, Any] = {}
    if request.param == "memory":
        urls = {"online": "memory:", "registry": "sqlite://"}
    elif request.param == "dynamodb":
        urls = {"online": request.getfixturevalue("dynamodb_server").url(timeout=20)}
    elif request.param != "lmdb":
        server = request.getfixturevalue("redis_server")
        server.client.flushall()
        urls = {"online": server.url, "registry": request.getfixturevalue("postgres_url")}

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))

    def opened() -> hw.FeatureStore:
        store = hw.FeatureStore(tmp_path, **urls)
        store.apply([USER, EVENTS, PROFILES])
        store.materialize()
        return store

    yield opened
    gc.collect()
    assert list((tmp_path / "temp").iterdir()) == []


_earlier: set[threading.Thread] = set()
"""Threads that other tests of this process left."""


@pytest.fixture(autouse=True)
def threads_of_others() -> None:
    _earlier.clear()
    _earlier.update(threading.enumerate())


def own_threads() -> set[str]:
    """The names of headwater's threads that a test began; those that are ending get a moment."""
    until = time.monotonic() + 10
    while True:
        began = set(threading.enumerate()) - _earlier
        found = {thread.name for thread in began if thread.name.startswith("headwater")}
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.02)


def hanging(threads: Sequence[threading.Thread], seconds: float = 20.0) -> str:
    """Where those threads are that do not end; empty where all do."""
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    frames = sys._current_frames()
    alive = [thread for thread in threads if thread.is_alive()]
    return "\n".join(
        "".join(traceback.format_stack(frames[thread.ident])) for thread in alive if thread.ident in frames
    )


def until_closed(work: Callable[[], object], ended: list[BaseException]) -> None:
    """Do something until it fails."""
    try:
        while True:
            work()
    except BaseException as bad:
        ended.append(bad)


def read_in_time(reader: Any) -> None:
    """A read with a deadline, which says that nothing could be read by its statuses."""
    statuses = reader.read([1, 2], deadline="5s").statuses["score"]
    if statuses == [hw.Status.UNAVAILABLE] * 2:
        raise Unavailable


@pytest.mark.parametrize("after", [0.0, 0.3])
def test_calls_under_way_at_a_close_end_or_say_that_it_was_closed(open_store, after):
    store = open_store()
    work, reader = Work(store), store.prepare(FEATURES)
    calls = (
        *(work.read, work.write, work.history, work.materialize, work.status),
        lambda: reader.read([1, 2]),
        lambda: read_in_time(reader),
        lambda: list(store.get_historical_features(None, FEATURES, at="2027-01-01").to_batches(3)),
    )
    ended: list[BaseException] = []
    threads = [threading.Thread(target=until_closed, args=(call, ended)) for call in calls]
    for thread in threads:
        thread.start()
    time.sleep(after)
    with at_most(15):
        store.close()
    assert hanging(threads) == ""
    assert {type(bad) for bad in ended} <= {Unavailable}, [repr(bad) for bad in ended]
    assert own_threads() == set()
    store.close()


def test_a_read_with_a_deadline_says_that_the_store_was_closed(open_store):
    store = open_store()
    reader = store.prepare(FEATURES)
    assert reader.read([1], deadline="5s").to_dict()["score"] == [0.5]
    store.close()
    for asked in ({"deadline": "5s"}, {}):
        with pytest.raises(Unavailable, match="was closed"):
            reader.read([1], **asked)


def test_several_threads_may_close_at_once(open_store):
    store = open_store()
    Work(store).history()
    problems: list[BaseException] = []

    def close() -> None:
        try:
            store.close()
        except BaseException as bad:
            problems.append(bad)

    threads = [threading.Thread(target=close) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert hanging(threads) == ""
    assert problems == []
    assert own_threads() == set()


# a stream of history is the engine's and the log's: the store has no part in it
@pytest.mark.one_in(4)
def test_a_stream_that_is_left_early_or_fails_in_its_consumer_leaves_nothing(open_store):
    with open_store() as store:
        for left in ("broken off", "dropped", "failed"):
            batches = store.get_historical_features(None, FEATURES, at="2027-01-01").to_batches(3)
            next(batches)
            if left == "broken off":
                batches.close()
            elif left == "failed":
                with pytest.raises(ZeroDivisionError):
                    for _ in batches:
                        raise ZeroDivisionError
            del batches
        gc.collect()
        space = store.context.engine.workspace()
        with space:
            assert space.fetch("SELECT table_name FROM information_schema.tables") == []
        assert len(store.context.engine._spaces) <= 1
    assert own_threads() == set()


@pytest.mark.one_in(4)
def test_a_stream_that_outlives_its_store_says_that_it_was_closed(open_store):
    store = open_store()
    batches = store.get_historical_features(None, FEATURES, at="2027-01-01").to_batches(3)
    next(batches)
    store.close()
    with pytest.raises(Unavailable, match="was closed"):
        list(batches)
    batches.close()
    with pytest.raises(HeadwaterError, match="was closed"):
        store.get_historical_features(None, FEATURES, at="2027-01-01")
