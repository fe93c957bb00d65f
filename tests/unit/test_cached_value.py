"""A value is read once for as long as it may be old, whoever asks, and stays where it cannot be read again."""

from __future__ import annotations

import threading

from headwater.cached_value import CachedValue
from headwater.errors import Unavailable


class Source:
    """Counts how often it is read."""

    def __init__(self) -> None:
        self.reads, self.away, self.now = 0, False, 0.0

    def read(self) -> int:
        self.reads += 1
        if self.away:
            raise Unavailable("away")
        return self.reads

    def cached(self) -> CachedValue[int]:
        return CachedValue(self.read, 0, 5.0, lambda: self.now)


def test_it_is_read_again_once_it_is_too_old() -> None:
    source = Source()
    value = source.cached()
    assert value.value == 0 and value.age == float("inf")
    seen = []
    for source.now in (0.0, 4.0, 5.0, 5.5, 10.0, 11.0):
        seen.append((value.get(), value.age))
    assert seen == [(1, 0.0), (1, 4.0), (1, 5.0), (2, 0.0), (2, 4.5), (3, 0.0)]
    assert value.get(within=0.5) == 3
    source.now = 12.0
    assert (value.get(within=0.5), value.get(within=0.5)) == (4, 4)


def test_it_stays_where_it_cannot_be_read() -> None:
    source = Source()
    value = source.cached()
    value.refresh()
    source.away, source.now = True, 6.0
    assert (value.get(), value.get(), source.reads, value.age) == (1, 1, 2, 6.0)
    # not until the last attempt is too long ago
    source.now = 11.0
    assert (value.get(), source.reads) == (1, 2)
    source.now = 11.5
    assert (value.get(), source.reads) == (1, 3)
    source.away = False
    value.expire()
    assert (value.get(), value.age) == (4, 0.0)


def test_it_is_read_once_for_all_who_ask() -> None:
    source, ready = Source(), threading.Barrier(8)
    value = source.cached()

    def ask() -> None:
        ready.wait(60)
        value.get()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (value.value, source.reads) == (1, 1)


def test_who_need_not_wait_has_what_was_read_last() -> None:
    reading, free, reads = threading.Event(), threading.Event(), []

    def read() -> int:
        reads.append(1)
        if len(reads) > 1:
            reading.set()
            assert free.wait(60)
        return len(reads)

    value = CachedValue(read, 0, 5.0)
    assert value.get(wait=False) == 1
    value.expire()
    thread = threading.Thread(target=value.get)
    thread.start()
    assert reading.wait(60)
    assert value.is_due() and value.get(wait=False) == 1
    free.set()
    thread.join()
    assert value.get(wait=False) == 2 and not value.is_due()
