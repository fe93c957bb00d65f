import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import Unavailable
from headwater.online.fetching.coalescing import MOST_KEYS, AsyncCoalescer, Coalescer
from headwater.testing import rounds


class Slow:
    """A store whose round trips take a while; it notes what was asked for."""

    def __init__(self, fails=False):
        self.asked = []
        self.fails = fails
        self.at_once = 0
        self.most_at_once = 0

    def __call__(self, keys):
        self.asked.append(list(keys))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(0.01)
        self.at_once -= 1
        if self.fails:
            raise Unavailable("gone")
        return [None if key == b"none" else b"row of " + key for key in keys]

    async def later(self, keys):
        self.asked.append(list(keys))
        await asyncio.sleep(0.01)
        if self.fails:
            raise Unavailable("gone")
        return [None if key == b"none" else b"row of " + key for key in keys]


def rows_of(keys):
    return [None if key == b"none" else b"row of " + key for key in keys]


def key_lists(count):
    return [[b"k%d" % (i % 7), b"none", b"k%d" % (i * 3 % 11), b"k%d" % (i % 7)] for i in range(count)]


def test_threads_share_round_trips_and_get_their_own_rows_in_order():
    store, lists = Slow(), key_lists(64)
    shared = Coalescer(store)
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(shared, lists)) == [rows_of(keys) for keys in lists]
    assert shared.reads == 64 and shared.trips == len(store.asked) < 32
    assert store.most_at_once == 1
    assert all(len(set(keys)) == len(keys) for keys in store.asked)


def test_a_lone_read_waits_for_nobody():
    store = Slow()
    assert Coalescer(store)([b"a", b"a"]) == rows_of([b"a", b"a"])
    assert store.asked == [[b"a"]]


def test_a_failure_reaches_every_read_of_its_round_trip_and_no_later_one():
    store = Slow(fails=True)
    shared = Coalescer(store)

    def read(keys):
        with pytest.raises(Unavailable, match="gone"):
            shared(keys)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, key_lists(16)))
    store.fails = False
    assert shared([b"a"]) == rows_of([b"a"])


def test_large_reads_go_alone():
    store = Slow()
    keys = [b"%d" % i for i in range(MOST_KEYS + 1)]
    assert Coalescer(store)(keys) == rows_of(keys)
    assert store.asked == [keys]


def test_tasks_share_round_trips_and_get_their_own_rows_in_order():
    async def run():
        store, lists = Slow(), key_lists(64)
        shared = AsyncCoalescer(store.later)
        assert await asyncio.gather(*map(shared, lists)) == [rows_of(keys) for keys in lists]
        assert shared.trips == len(store.asked) < 8
        assert await shared([b"z"]) == rows_of([b"z"])

    asyncio.run(run())


@settings(max_examples=rounds(20), deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), max_size=40), min_size=1, max_size=8))
def test_reads_of_any_size_get_their_rows_and_keys_of_small_ones_are_read_once(lists):
    asked = []

    async def get(keys):
        asked.append(list(keys))
        return rows_of(keys)

    async def run():
        shared = AsyncCoalescer(get)
        reads = [[b"%d" % number for number in numbers] for numbers in lists]
        assert await asyncio.gather(*map(shared, reads)) == [rows_of(keys) for keys in reads]
        if len(reads) > 1 and all(len(keys) <= 16 for keys in reads):
            assert len(asked[0]) == len({key for keys in reads for key in keys})

    asyncio.run(run())


def test_what_comes_while_a_round_trip_takes_long_is_put_into_several():
    sizes = []

    async def get(keys):
        sizes.append(len(keys))
        await asyncio.sleep(0.01)
        return rows_of(keys)

    async def run():
        shared = AsyncCoalescer(get)
        lists = [[b"%d" % (n * 100 + i) for i in range(100)] for n in range(64)]
        assert await asyncio.gather(*map(shared, lists)) == [rows_of(keys) for keys in lists]
        assert shared.trips == len(sizes)

    asyncio.run(run())
    assert sum(sizes) == 6_400
    assert max(sizes) <= MOST_KEYS + 100


def test_reads_of_one_turn_share_a_round_trip_and_none_waits_for_another_turn_s():
    asked, free = [], []

    async def get(keys):
        asked.append(list(keys))
        free.append(asyncio.get_running_loop().create_future())
        await free[-1]
        return rows_of(keys)

    async def run():
        shared = AsyncCoalescer(get)
        first = [asyncio.create_task(shared(keys)) for keys in ([b"a", b"b"], [b"b", b"c"], [b"a"])]
        while not asked:
            await asyncio.sleep(0)
        later = asyncio.create_task(shared([b"b"]))
        while len(asked) < 2:
            await asyncio.sleep(0)
        assert asked == [[b"a", b"b", b"c"], [b"b"]] and (shared.reads, shared.trips) == (4, 2)
        free[1].set_result(None)
        assert await later == rows_of([b"b"])
        assert not any(task.done() for task in first)
        free[0].set_result(None)
        assert await asyncio.gather(*first) == [rows_of([b"a", b"b"]), rows_of([b"b", b"c"]), rows_of([b"a"])]

    asyncio.run(run())


def test_a_cancelled_task_leaves_the_round_trip_to_the_others():
    async def run():
        store = Slow()
        shared = AsyncCoalescer(store.later)
        tasks = [asyncio.create_task(shared([b"a", b"b"])) for _ in range(4)]
        await asyncio.sleep(0.002)
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        assert await asyncio.gather(*tasks[1:]) == [rows_of([b"a", b"b"])] * 3

    asyncio.run(run())


def test_a_failure_reaches_every_task_of_its_round_trip():
    async def run():
        shared = AsyncCoalescer(Slow(fails=True).later)
        found = await asyncio.gather(*[shared([b"a"]) for _ in range(3)], return_exceptions=True)
        assert [type(bad) for bad in found] == [Unavailable] * 3

    asyncio.run(run())


def test_no_read_is_lost_where_threads_come_and_go():
    shared, wrong = Coalescer(lambda keys: rows_of(keys)), []

    def work(seed):
        for i in range(300):
            keys = [b"%d" % ((seed * i) % 13), b"%d" % (i % 5)]
            if shared(keys) != rows_of(keys):
                wrong.append(keys)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and shared.reads == 2400


class Interrupted(BaseException):
    """As `KeyboardInterrupt`, which only the main thread gets."""


@pytest.mark.parametrize("when", ["in its round trip", "while it waits for its turn"])
def test_who_is_interrupted_leaves_the_others_their_rows(when):
    first_began, go_on, joined = threading.Event(), threading.Event(), threading.Event()
    calls = []

    def get(keys):
        calls.append(list(keys))
        if len(calls) == 1:
            first_began.set()
            go_on.wait(60)
        elif len(calls) == 2 and when == "in its round trip":
            raise Interrupted
        return rows_of(keys)

    shared = Coalescer(get)
    if when == "while it waits for its turn":
        turns = shared._under_way

        class Turns:
            def __enter__(self):
                if threading.current_thread().name == "interrupted":
                    joined.wait(60)
                    raise Interrupted
                turns.acquire()

            def __exit__(self, *_):
                turns.release()

            def locked(self):
                return turns.locked()

        shared._under_way = Turns()
    ended = {}

    def read(name, keys):
        try:
            ended[name] = shared(keys)
        except BaseException as bad:
            ended[name] = type(bad)

    threads = [threading.Thread(target=read, args=("first", [b"a"]))]
    threads[0].start()
    first_began.wait(60)
    threads.append(threading.Thread(target=read, args=("interrupted", [b"b"]), name="interrupted"))
    threads[1].start()
    while shared._next is None:
        time.sleep(0.001)
    threads.append(threading.Thread(target=read, args=("other", [b"c"])))
    threads[2].start()
    while len(shared._next.batch.places) < 2:
        time.sleep(0.001)
    joined.set()
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert [thread for thread in threads if thread.is_alive()] == []
    assert ended == {"first": rows_of([b"a"]), "interrupted": Interrupted, "other": rows_of([b"c"])}
    assert shared([b"d"]) == rows_of([b"d"])


def test_a_round_trip_that_its_first_read_never_began_is_run_by_another():
    shared = Coalescer(rows_of)
    real = shared._run
    shared._run = lambda turn: None  # interrupted between its two statements
    turn = {}

    def interrupted():
        try:
            shared([b"a"])
        except IndexError:
            turn["is"] = shared._next

    interrupted()
    shared._run = real
    found = []
    thread = threading.Thread(target=lambda: found.append(shared([b"b"])))
    thread.start()
    thread.join(60)
    assert found == [rows_of([b"b"])]
    assert turn["is"] is not None and turn["is"].done.is_set()
    assert shared([b"c"]) == rows_of([b"c"])
