"""Workers take connections from one socket: as many each, and all of them where one does not answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from headwater.serving import acceptor
from headwater.serving.acceptor import Acceptor
from headwater.serving.slots import Memory, Shares, make_memory


class Open(asyncio.Protocol):
    """A connection among those of a worker."""

    def __init__(self, worker: set[Open]) -> None:
        self._worker = worker

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._worker.add(self)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._worker.discard(self)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.001)


async def connections_of(workers: int, absent: int, count: int) -> list[int]:
    """How many connections each worker has that answers, of some that are opened at once; all end well.

    Args:
        workers: that answer.
        absent: that say that they have none, and take none.
        count: of connections.
    """
    memory = Memory(make_memory(1 + workers + absent))
    open_ones: list[set[Open]] = [set() for _ in range(workers)]
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        for n in range(absent):
            Shares(memory, 1 + workers + n).note(0)
        acceptors = [
            Acceptor(listening.dup(), lambda mine=mine: Open(mine), None, mine, Shares(memory, 1 + n))  # type: ignore[misc]
            for n, mine in enumerate(open_ones)
        ]
        address = listening.getsockname()
        clients = [socket.create_connection(address) for _ in range(count)]
        await until(lambda: sum(map(len, open_ones)) == count)
        found = list(map(len, open_ones))
        for client in clients:
            client.close()
        await until(lambda: not any(open_ones))
        for one in acceptors:
            one.close()
            one.close()
            one._listening.close()
    return found


def test_each_worker_has_about_as_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "PATIENCE", 3_600)
    for workers, count in ((2, 8), (3, 30)):
        found = asyncio.run(connections_of(workers, 0, count))
        # what another has just taken or lost may not be known yet
        assert max(found) - min(found) <= 2, found
    assert asyncio.run(connections_of(1, 0, 20)) == [20]


def test_connections_that_a_worker_does_not_take_are_taken_by_another() -> None:
    assert asyncio.run(connections_of(1, 1, 40)) == [40]
    assert sum(asyncio.run(connections_of(2, 1, 40))) == 40


def test_a_worker_that_is_gone_is_waited_for_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(make_memory(3))
    first, second = Shares(memory, 1), Shares(memory, 2)
    first.note(1)
    assert not first.has_most  # the other never began
    second.note(0)
    assert first.has_most and not second.has_most
    second.note(1)
    assert not first.has_most
    second.note(0)
    second.leave()
    assert not first.has_most
