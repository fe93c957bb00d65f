import asyncio
import time

import pytest

from headwater.errors import ConsistencyLost, Unavailable
from headwater.online.fetching.fetcher import Ask, AsyncFetcher, Fetcher, ReadSettings
from headwater.online.powers import UNREAD, Reading
from headwater.online.session import Session
from headwater.online.stores.memory.store import MemoryOnlineStore
from headwater.types import ConsistencyLevel

MONOTONIC, SESSION = ConsistencyLevel.MONOTONIC_READ, ConsistencyLevel.SESSION


class Leveled(MemoryOnlineStore):
    """The store in memory, as one that says where its rows lie; it fails when told to."""

    def __init__(self):
        super().__init__()
        self.asked = []
        self.failures = 0
        self.place = 10
        self.lost = False

    def read(self, keys, level, marks, deadline=None):
        self.asked.append((list(keys), level, marks, deadline))
        if self.failures:
            self.failures -= 1
            raise Unavailable("no answer")
        if self.lost:
            raise ConsistencyLost("another history", marks={"new": 1})
        return Reading(self.multi_get(keys), {"node": self.place})


class Later:
    def __init__(self, store):
        self.store = store

    async def read(self, *args):
        await asyncio.sleep(0)
        return self.store.read(*args)


@pytest.fixture(params=["sync", "async"])
def fetch(request):
    """A store and a way to read it, by each of both clients."""
    store = Leveled()
    store.put_meta({b"a": b"1"})

    def make(settings=ReadSettings()):  # noqa: B008
        if request.param == "sync":
            return Fetcher(store, settings, lambda: "s").rows
        fetcher = AsyncFetcher(Later(store), settings, lambda: "s")
        return lambda *args: asyncio.run(fetcher.rows(*args))

    return store, make


def test_a_store_of_one_node_is_asked_directly():
    store = MemoryOnlineStore()
    assert Fetcher(store, ReadSettings(), str).direct
    assert not Fetcher(store, ReadSettings(cache=1.0), str).direct
    assert not Fetcher(Leveled(), ReadSettings(), str).direct


def test_a_session_hands_on_its_marks_and_takes_those_of_the_answer(fetch):
    store, make = fetch
    session = Session("s", {"old": 3, "node": 4})
    assert make()([b"a", b"x"], Ask(SESSION, session)) == [b"1", None]
    assert store.asked[-1][1:3] == (SESSION, {"old": 3, "node": 4})
    assert session.marks == {"node": 10}


def test_an_eventual_read_with_a_session_lets_no_mark_go(fetch):
    _, make = fetch
    session = Session("s", {"old": 3, "node": 40})
    make()([b"a"], Ask(session=session))
    assert session.marks == {"old": 3, "node": 40}


def test_a_lost_session_is_told_with_a_fresh_one(fetch):
    store, make = fetch
    store.lost = True
    with pytest.raises(ConsistencyLost) as told:
        make()([b"a"], Ask(MONOTONIC, Session("s", {"old": 3})))
    assert told.value.session == Session("s", {"new": 1})


def test_a_failed_read_is_tried_again_so_often_and_no_more(fetch):
    store, make = fetch
    store.failures = 1
    assert make(ReadSettings(retries=1))([b"a"]) == [b"1"]
    store.failures = 2
    with pytest.raises(Unavailable, match="no answer"):
        make(ReadSettings(retries=1))([b"a"])


def test_with_a_deadline_an_outage_leaves_rows_unread_and_is_no_error(fetch):
    store, make = fetch
    store.failures = 100
    assert make(ReadSettings(retries=0))([b"a", b"b"], Ask(deadline=0.01)) == [UNREAD, UNREAD]
    assert store.asked[-1][3] <= 0.01


def test_the_breaker_spares_a_failing_store(fetch):
    store, make = fetch
    rows = make(ReadSettings(retries=0, breaker_failures=2, breaker_rest=60))
    store.failures = 100
    for _ in range(5):
        with pytest.raises(Unavailable):
            rows([b"a"])
    assert len(store.asked) == 2


def test_refused_reads_do_not_keep_the_breaker_open(fetch):
    store, make = fetch
    rows = make(ReadSettings(retries=0, breaker_failures=2, breaker_rest=0.2))
    store.failures = 2
    refused = 0
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        try:
            rows([b"a"])
        except Unavailable:
            refused += 1
        else:
            break
        time.sleep(0.02)
    assert refused > 2 and rows([b"a"]) == [b"1"]
    assert time.monotonic() < until


def test_kept_rows_serve_eventual_reads_alone(fetch):
    store, make = fetch
    rows = make(ReadSettings(cache=60))
    assert [rows([b"a", b"x"]) for _ in range(3)] == [[b"1", None]] * 3
    assert len(store.asked) == 1
    store.put_meta({b"a": b"2"})
    assert rows([b"a", b"y"]) == [b"1", None] and store.asked[-1][0] == [b"y"]
    assert rows([b"a"], Ask(ConsistencyLevel.STRONG)) == [b"2"]
    assert rows([b"a"], Ask(SESSION, Session())) == [b"2"]


def test_an_unread_row_is_not_kept(fetch):
    store, make = fetch
    rows = make(ReadSettings(cache=60, retries=0))
    store.failures = 1
    assert rows([b"a"], Ask(deadline=1.0)) == [UNREAD]
    assert rows([b"a"]) == [b"1"]


def test_shared_round_trips_keep_levels_apart(fetch):
    store, make = fetch
    rows = make(ReadSettings(coalesce=True))
    assert rows([b"a", b"a"]) == [b"1", b"1"]
    assert rows([b"a"], Ask(ConsistencyLevel.STRONG)) == [b"1"]
    assert [ask[1] for ask in store.asked] == [ConsistencyLevel.EVENTUAL, ConsistencyLevel.STRONG]
