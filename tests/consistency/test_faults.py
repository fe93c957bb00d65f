"""Connections cut in the middle, nodes that stall, answers that come late: no wrong value, no hang."""

import random
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import headwater as hw
from tests.consistency.clients import bounded, get, open_store, put
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisReplicas, RedisServer
from tests.servers.waiting import at_most

USERS = list(range(300))
Unavailable = hw.errors.Unavailable


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis") / "0") as server:
        yield server


@pytest.fixture
def link(server: RedisServer) -> Iterator[Proxy]:
    """What a client speaks to the server through."""
    with Proxy(server.port) as link:
        yield link


@pytest.fixture
def store(project: Path, link: Proxy) -> Iterator[hw.FeatureStore]:
    with open_store(project, f"redis://127.0.0.1:{link.port}/0") as store:
        store.context.online.delete([key for key, _ in store.context.online.scan(b"")])
        yield store


def read_many(store: hw.FeatureStore, users: list[int], level: str = "strong") -> list[Any]:
    session = store.session() if level == "session" else None
    values: list[Any] = store.get_online_features(["score:n"], users, consistency=level, session=session).to_dict()["n"]
    return values


@pytest.mark.parametrize("level", ["eventual", "session", "strong"])
def test_a_connection_cut_in_the_middle_of_an_answer_gives_no_wrong_value(
    store: hw.FeatureStore, link: Proxy, level: str
) -> None:
    for user in USERS[::10]:
        put(store, user, user + 1)
    wanted = [user + 1 if user % 10 == 0 else None for user in USERS]
    chance = random.Random(7)
    outcomes = set()
    for _ in range(60):
        users = chance.sample(USERS, chance.randint(1, len(USERS)))
        link.cut_after(chance.randint(0, 40 * len(users)))
        found = bounded(lambda users=users: read_many(store, users, level))  # type: ignore[misc]
        link.resume()
        outcomes.add(type(found))
        assert isinstance(found, Unavailable) or found == [wanted[user] for user in users]
    assert list in outcomes
    assert read_many(store, USERS, level) == wanted


def test_a_write_that_is_cut_is_there_whole_or_not_row_by_row(store: hw.FeatureStore, link: Proxy) -> None:
    chance = random.Random(8)
    before = 0
    for n in range(1, 30):
        link.cut_after(chance.randint(0, 400))
        done = bounded(lambda n=n: put(store, USERS, n))  # type: ignore[misc]
        link.resume()
        found = read_many(store, USERS)
        assert {value or 0 for value in found} <= set(range(before, n + 1))
        if not isinstance(done, hw.HeadwaterError):
            assert found == [n] * len(USERS)
            before = n
        else:
            assert isinstance(done, Unavailable)


def test_an_answer_that_comes_late_is_nobody_else_s_answer(store: hw.FeatureStore, link: Proxy) -> None:
    put(store, 1, 1)
    put(store, 2, 2)
    assert (get(store, 1, "strong"), get(store, 2, "strong")) == (1, 2)
    reader = store.prepare(["score:n"])
    link.hold()
    late = reader.read([1], deadline="50ms")
    assert [status.name for status in late.statuses["n"]] == ["UNAVAILABLE"] and late.to_dict()["n"] == [None]
    link.resume()
    for _ in range(5):
        assert (get(store, 2, "strong"), get(store, 1, "eventual")) == (2, 1)


def test_a_deadline_holds_whatever_the_store_does(store: hw.FeatureStore, link: Proxy) -> None:
    put(store, 1, 1)
    reader = store.prepare(["score:n"])
    for hinder in (link.hold, link.refuse, lambda: link.delay(0.5)):
        reader.read([1], consistency="strong")
        hinder()
        with at_most(0.4):
            result = reader.read([1], consistency="strong", deadline="100ms")
        assert result.to_dict()["n"] == [None]
        link.resume()


def test_a_store_that_never_answers_is_unavailable_in_bounded_time(store: hw.FeatureStore, link: Proxy) -> None:
    put(store, 1, 1)
    # the first read of features asks whose rows the store holds, and would wait as long for that
    assert get(store, 1, "strong") == 1
    link.hold()
    assert isinstance(bounded(lambda: get(store, 1, "strong")), Unavailable)
    assert isinstance(bounded(lambda: put(store, 1, 2)), Unavailable)
    link.resume()
    # nobody knows whether the write was applied
    assert get(store, 1, "strong") in (1, 2)


def test_a_paused_replica_is_left_out(store: hw.FeatureStore, project: Path, tmp_path: Path) -> None:
    with RedisReplicas(tmp_path / "redis") as nodes, open_store(project, f"{nodes.url}&timeout=700ms") as store:
        session = store.session()
        put(store, 7, 1, session=session)
        nodes.wait_level()
        assert get(store, 7, "eventual") == 1
        for replica in nodes.replicas:
            replica.pause()
            for level in ("eventual", "monotonic_read", "session"):
                found = bounded(lambda level=level: get(store, 7, level, session))  # type: ignore[misc]
                assert found == 1
        put(store, 7, 2, session=session)
        assert bounded(lambda: get(store, 7, "session", session)) == 2
        for replica in nodes.replicas:
            replica.unpause()


def test_a_queue_of_callers_on_a_dead_store_drains_in_bounded_time_and_recovers(
    store: hw.FeatureStore, link: Proxy
) -> None:
    put(store, USERS, 1)
    link.refuse()
    outcomes: list[Any] = []

    def call(i: int) -> None:
        for n in range(3):
            outcomes.append(bounded(partial(put, store, i, 10 + n) if i % 2 else partial(get, store, i, "strong")))

    callers = [threading.Thread(target=call, args=(i,)) for i in range(16)]
    with at_most(15):
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(60)
    assert len(outcomes) == 48 and all(isinstance(outcome, Unavailable) for outcome in outcomes)
    link.resume()
    assert read_many(store, USERS) == [1] * len(USERS)
    put(store, USERS, 20)
    assert read_many(store, USERS) == [20] * len(USERS)


def test_what_a_dead_store_missed_the_next_run_puts(store: hw.FeatureStore, link: Proxy) -> None:
    put(store, 7, 1, to="both")
    link.refuse()
    failed = bounded(lambda: put(store, 7, 2, to="both"))
    assert isinstance(failed, Unavailable)
    link.resume()
    store.materialize()
    # whoever was told that the row is in the log finds it online now
    assert get(store, 7, "strong") == (2 if "offline log" in str(failed) else 1)
