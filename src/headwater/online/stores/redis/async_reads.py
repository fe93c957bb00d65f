"""Reads of Redis on an event loop: the plans of the synchronous store, asked by an asynchronous client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headwater.errors import HeadwaterError, Unavailable, was_closed
from headwater.online.connections import ConnectionCounts
from headwater.online.powers import Reading
from headwater.online.stores.redis.async_nodes import AsyncNode, check_client
from headwater.online.stores.redis.cluster import read_plan
from headwater.online.stores.redis.reads import Nodes, Question
from headwater.online.stores.redis.slot_map import Slots
from headwater.online.stores.redis.url import Address, RedisLocation
from headwater.types import ConsistencyLevel


class RedisReads:
    """Reads on an asynchronous client, of one event loop.

    Raises:
        MissingExtra: hiredis is not installed.
    """

    def __init__(self, location: RedisLocation) -> None:
        check_client()
        self.location = location
        self._cluster = Slots(location) if location.kind == "cluster" else None
        self._found = Nodes(location)
        self._alone = self._found.alone
        self._nodes: dict[tuple[Address, bool], AsyncNode] = {}
        self._closed = False

    async def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """As `RedisOnlineStore.multi_get`, of rows."""
        return (await self.read(keys, ConsistencyLevel.STRONG, None)).rows

    async def read(
        self,
        keys: Sequence[bytes],
        level: ConsistencyLevel,
        marks: Mapping[str, int] | None,
        deadline: float | None = None,
    ) -> Reading:
        """As `RedisOnlineStore.read`."""
        if not keys:
            return Reading([], marks or {})
        plan = read_plan(self._found, self._cluster, keys, level, marks, deadline)
        try:
            questions = next(plan)
            while True:
                if len(questions) == 1:
                    answers = [await self._answer(questions[0])]
                else:
                    answers = list(await asyncio.gather(*map(self._answer, questions)))
                questions = plan.send(answers)
        except StopIteration as done:
            found: Reading = done.value
            return found

    def begin(self, keys: Sequence[bytes], took: Callable[[list[bytes | None] | None], None]) -> bool:
        """As `Begun.begin`: of one server without replicas, once it is connected."""
        if not self._alone or self._closed or not keys:
            return False
        node = self._nodes.get((self.location.hosts[0], False))
        return node is not None and node.begin(("MGET", *keys), took)

    async def _answer(self, question: Question) -> list[Any] | HeadwaterError:
        if self._closed:
            raise self._was_closed()
        key = (question.node, question.sentinel)
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = AsyncNode(self.location, question.node, sentinel=question.sentinel)
        try:
            return await node.run(question.commands, question.timeout, question.each)
        except HeadwaterError as bad:
            if self._closed:
                raise self._was_closed() from bad
            return bad

    def _was_closed(self) -> Unavailable:
        return was_closed(f"{self.location.shown} was closed")

    def connections(self) -> ConnectionCounts:
        """As `Pooled.connections`."""
        return ConnectionCounts.total(node.connections() for node in self._nodes.values())

    async def close(self) -> None:
        """End the connections; nothing is asked any more."""
        self._closed = True
        for node in self._nodes.values():
            await node.close()
