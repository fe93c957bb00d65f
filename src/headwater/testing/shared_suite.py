"""The suite of online stores whose data several processes reach by one URL."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from headwater.loader import ONLINE_STORES, load_plugin
from headwater.online.base import OnlineStore, PutOutcome
from headwater.online.rows.codec import header, replaced, sequence_of
from headwater.testing.online_rows import Order, key_of, order_of, plain_row, plain_rows
from headwater.testing.online_suite import OnlineStoreSuite
from headwater.testing.processes import PROCESSES

Place = tuple[str, Path]


class SharedOnlineStoreSuite(OnlineStoreSuite):
    """Subclass it and give the fixture `place`: a URL, whose scheme finds the store, and the folder it starts from."""

    @pytest.fixture
    def place(self) -> Place:
        """The URL of an empty store, and a folder."""
        raise NotImplementedError("give a fixture named `place`")

    @pytest.fixture
    def store(self, place: Place) -> Any:
        """The store of the URL, through its entry point."""
        store = open_store(place)
        yield store
        store.close()

    def test_it_is_still_there_when_opened_again(self, store: OnlineStore, place: Place) -> None:
        key, row = plain_row(1)
        store.put([(key, row)])
        store.close()
        again = open_store(place)
        assert again.multi_get([key]) == [row]
        again.close()

    def test_another_process_sees_what_was_put(self, store: OnlineStore, place: Place) -> None:
        store.put([plain_row(1, Order(7))])
        assert _processes().submit(_read, place, [key_of(1), key_of(2)]).result(120) == [Order(7), None]
        store.put([plain_row(1, Order(8))])
        assert _processes().submit(_read, place, [key_of(1)]).result(120) == [Order(8)]

    def test_fifty_writers_of_the_same_keys_in_two_processes_leave_the_greatest(
        self, store: OnlineStore, place: Place
    ) -> None:
        keys = 10
        orders = [[Order((n * 7 + key) % 23, n) for key in range(keys)] for n in range(50)]
        pending = [_processes().submit(_put_at_once, place, part) for part in (orders[::2], orders[1::2])]
        applied = [outcomes for done in pending for outcomes in done.result(120)]
        found = store.multi_get([key_of(n) for n in range(keys)])
        assert [order_of(row) for row in found] == [max(mine[key] for mine in orders) for key in range(keys)]
        assert all(any(done[key] is PutOutcome.APPLIED for done in applied) for key in range(keys))

    def test_compare_and_put_loses_no_update_between_processes(self, store: OnlineStore, place: Place) -> None:
        pending = [_processes().submit(_add, place, 20) for _ in range(2)]
        _add_to(store, 20)
        for done in pending:
            done.result(timeout=120)
        assert order_of(store.multi_get([key_of(1)])[0]) == Order(60)

    def test_another_process_makes_the_store_grow(self, store: OnlineStore, place: Place) -> None:
        count = self.many // 4
        _processes().submit(_fill, place, count).result(timeout=120)
        assert all(row is not None for row in store.multi_get([key_of(n) for n in range(0, count, 97)]))
        store.put(plain_rows([Order(1)] * count, text="y" * 1_000))
        assert order_of(store.multi_get([key_of(count - 1)])[0]) == Order(1)


def open_store(place: Place) -> OnlineStore:
    """The store that a URL's scheme names, found through the entry points."""
    url, folder = place
    store: OnlineStore = load_plugin(ONLINE_STORES, url.partition(":")[0]).from_url(url, folder)
    return store


@cache
def _processes() -> ProcessPoolExecutor:
    """Two other processes, which live as long as this one: starting them is the dear part."""
    return ProcessPoolExecutor(2, mp_context=PROCESSES)


def _read(place: Place, keys: list[bytes]) -> list[Order | None]:
    store = open_store(place)
    found = [order_of(row) for row in store.multi_get(keys)]
    store.close()
    return found


def _put_at_once(place: Place, orders: list[list[Order]]) -> list[list[PutOutcome]]:
    """What became of the rows of a writer for each of them."""
    store = open_store(place)
    with ThreadPoolExecutor(len(orders)) as pool:
        told = list(pool.map(lambda mine: store.put(plain_rows(mine)), orders))
    store.close()
    return told


def _add(place: Place, times: int) -> None:
    store = open_store(place)
    _add_to(store, times)
    store.close()


def _add_to(store: OnlineStore, times: int) -> None:
    key = key_of(1)
    while times:
        (row,) = store.multi_get([key])
        told = header(row)
        event = told.event + 1 if told is not None else 1
        times -= store.compare_and_put(key, sequence_of(row), replaced(row, plain_row(1, Order(event))[1]))


def _fill(place: Place, count: int) -> None:
    store = open_store(place)
    store.put(plain_rows([Order()] * count, text="x" * 1_000))
    store.close()
