"""One connection for all tasks of an event loop: each gets its own answers, whatever becomes of the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.online.stores.redis.lines import Line, packed_command

LONG = 60.0
"""Seconds: far more than anything here takes."""


class Wire(asyncio.Transport):
    """A transport that keeps what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent, self.packets = b"", 0
        self.closed = False
        self.protocol: Any = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)
        self.packets += 1

    def commands(self) -> list[list[bytes]]:
        """What was sent since the last call."""
        reader = hiredis.Reader()
        reader.feed(self.sent)
        self.sent = b""
        found = []
        while (command := reader.gets()) is not False:
            found.append(command)
        return found

    def end(self) -> None:
        self.closed = True


def line_of(patience: float = LONG) -> tuple[Line, Wire]:
    wire = Wire()
    return Line(wire, wire.end, RuntimeError, patience), wire


def bulk(data: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(data), data)


async def sent() -> None:
    """Wait until tasks that were begun have asked, and what they asked was sent: in the turn after."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def echoed(commands: Sequence[Sequence[bytes]]) -> bytes:
    """The answer to each ECHO."""
    return b"".join(bulk(command[1]) for command in commands)


@given(
    asks=st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=12),
    cuts=st.lists(st.integers(1, 40)),
)
def test_each_gets_its_own_answers(asks: list[tuple[int, bool]], cuts: list[int]) -> None:
    async def run() -> None:
        line, wire = line_of()
        tasks = []
        for n, (count, _) in enumerate(asks):
            tasks.append(asyncio.create_task(line.ask([("ECHO", f"{n}.{i}") for i in range(count)])))
        await sent()
        data = echoed(wire.commands())
        for task, (_, cancelled) in zip(tasks, asks, strict=True):
            if cancelled:
                task.cancel()
        for cut in [*cuts, len(data)]:
            line.data_received(data[:cut])
            data = data[cut:]
            await asyncio.sleep(0)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        for n, ((count, cancelled), answers) in enumerate(zip(asks, found, strict=True)):
            if cancelled:
                assert isinstance(answers, asyncio.CancelledError)
            else:
                assert answers == [f"{n}.{i}".encode() for i in range(count)]
        after = asyncio.create_task(line.ask([("ECHO", "after")]))
        await sent()
        line.data_received(echoed(wire.commands()))
        assert await after == [b"after"]
        assert not line.ended
        line.end(ConnectionError())

    asyncio.run(run())


def test_what_is_asked_in_one_turn_is_sent_at_once() -> None:
    async def run() -> None:
        line, wire = line_of()
        for turn in (1, 2):
            tasks = [asyncio.create_task(line.ask([("ECHO", str(n))])) for n in range(5)]
            await sent()
            assert wire.packets == turn
            line.data_received(echoed(wire.commands()))
            assert await asyncio.gather(*tasks) == [[b"%d" % n] for n in range(5)]
        ended = asyncio.create_task(line.ask([("ECHO", "x")]))
        await asyncio.sleep(0)
        line.end(ConnectionError("closed"))
        with pytest.raises(ConnectionError, match="closed"):
            await ended
        assert wire.packets == 2

    asyncio.run(run())


def test_an_error_is_the_answer_of_its_command_alone() -> None:
    async def run() -> None:
        line, _ = line_of()
        first = asyncio.create_task(line.ask([("GET", "a"), ("GET", "b")]))
        second = asyncio.create_task(line.ask([("GET", "c")]))
        await sent()
        line.data_received(b"-WRONGTYPE of a\r\n$1\r\nb\r\n$-1\r\n")
        refused, value = await first
        assert (str(refused), value, await second) == ("WRONGTYPE of a", b"b", [None])
        line.end(ConnectionError())

    asyncio.run(run())


def test_who_waits_no_longer_leaves_the_line_to_the_others() -> None:
    async def run() -> None:
        line, wire = line_of()
        others = asyncio.create_task(line.ask([("ECHO", "slow")]))
        with pytest.raises(TimeoutError):
            await line.ask([("ECHO", "late")], 0.01)
        after = asyncio.create_task(line.ask([("ECHO", "after")]))
        await sent()
        line.data_received(echoed(wire.commands()))
        assert (await others, await after) == ([b"slow"], [b"after"])
        line.end(ConnectionError())

    asyncio.run(run())


def test_a_silent_server_ends_the_line() -> None:
    async def run() -> None:
        line, wire = line_of(patience=0.01)
        asked = [asyncio.create_task(line.ask([("ECHO", str(n))])) for n in range(3)]
        found = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), LONG)
        assert [type(bad) for bad in found] == [TimeoutError] * 3
        assert line.ended
        assert wire.closed
        with pytest.raises(ConnectionError):
            await line.ask([("ECHO", "after")])

    asyncio.run(run())


@pytest.mark.parametrize(
    "ends",
    [
        lambda line: line.connection_lost(None),
        lambda line: line.connection_lost(ConnectionResetError("reset")),
        lambda line: line.data_received(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        lambda line: line.data_received(b"+OK\r\n+OK\r\n+more than was asked\r\n"),
    ],
    ids=["closed", "reset", "another protocol", "too many answers"],
)
def test_a_line_that_ends_says_so_to_all(ends: Any) -> None:
    async def run() -> None:
        line, wire = line_of()
        asked = [asyncio.create_task(line.ask([("GET", "a")])) for _ in range(2)]
        await sent()
        ends(line)
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(answer, ConnectionError) or answer == [b"OK"] for answer in found)
        assert line.ended
        assert wire.closed

    asyncio.run(run())


@given(
    keys=st.lists(st.binary(min_size=3, max_size=4) | st.text(max_size=3) | st.integers(), max_size=40)
    | st.lists(st.binary(min_size=3, max_size=3), min_size=20, max_size=40)
)
def test_commands_are_packed_as_hiredis_packs_them(keys: list[Any]) -> None:
    assert packed_command(("MGET", *keys)) == hiredis.pack_command(("MGET", *keys))
