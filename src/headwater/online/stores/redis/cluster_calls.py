"""Commands to a Redis Cluster, each at the shard that has its slot just now: what has moved is followed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headwater.errors import HeadwaterError, Unavailable
from headwater.online.base import HighWater
from headwater.online.stores.redis.answers import Command
from headwater.online.stores.redis.cluster import FOLLOWED, find_shards
from headwater.online.stores.redis.errors import Moved, NotPrimary, NotReached
from headwater.online.stores.redis.nodes import Node, PendingEach
from headwater.online.stores.redis.scripts import SHARD_RAISE, Script
from headwater.online.stores.redis.servers import Servers
from headwater.online.stores.redis.slot_map import Shard, Slots
from headwater.online.stores.redis.slots import meta_hash, slot_of
from headwater.online.stores.redis.url import Address

PAUSES = (0.0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.3)
"""Seconds before each try of what must see a cluster at rest."""
_ARRIVES = 2.0
"""Seconds within which a slot that is on its way should have arrived."""


@dataclass
class _Round:
    """What one pipeline to each shard has come to.

    Attributes:
        missed: the commands' indices that must be sent elsewhere.
        moved: slot → its owner.
        asked: node → the commands' indices whose slots are on their way there.
        failed: a node that did not answer, or refused.
        gone: a node that is not there.
        aside: whether a shard's own first command found its slot elsewhere.
    """

    missed: list[int] = field(default_factory=list)
    moved: dict[int, Address] = field(default_factory=dict)
    asked: dict[Address, list[int]] = field(default_factory=dict)
    failed: HeadwaterError | None = None
    gone: NotReached | None = None
    aside: bool = False


class ClusterCalls:
    """Asks the shards of a cluster.

    Args:
        servers: to ask.
        slots: the map.
    """

    def __init__(self, servers: Servers, slots: Slots) -> None:
        self.servers = servers
        self.slots = slots

    def shards(self) -> Sequence[Shard]:
        """The shards as the map has them."""
        return self.refreshed() if self.slots.stale else self.slots.shards

    def refreshed(self, moved: Mapping[int, Address] | None = None) -> Sequence[Shard]:
        """The shards as the cluster has them now."""
        self.servers.run(find_shards(self.slots, moved))
        return self.slots.shards

    def node(self, shard: Shard) -> Node:
        """A shard's primary."""
        return self.servers.node(shard.primary)

    def ask(
        self,
        keys: Sequence[bytes],
        commands: Sequence[Command],
        scripts: Sequence[Script] = (),
        *,
        high_water: HighWater | None = None,
        follow: bool = True,
    ) -> list[Any]:
        """The answers to commands, each at the shard that has its key, wherever its slot is just now.

        An answer is a `Moved` where the slot is on its way, and the command has several keys, or is not to follow.

        Args:
            keys: of each command.
            commands: name and arguments of each.
            scripts: those that they call.
            high_water: raised on each shard before any command is done there.
            follow: whether a command goes where its slot is on its way to.

        Raises:
            Unavailable: a shard does not answer; commands on others may have been done.
        """
        answers: list[Any] = [None] * len(keys)
        left: Sequence[int] = range(len(keys))
        shards = self.shards()
        if high_water is not None and not all(shard.fixed for shard in shards):
            self.raise_everywhere(high_water)
        gone = 0
        for _ in range(FOLLOWED):
            result = self._round(keys, commands, scripts, left, answers, high_water)
            gone = gone + 1 if result.gone else 0
            if result.failed is not None or gone > 1:
                # it may have been replaced: the next call looks
                self.slots.stale = True
                raise result.failed or result.gone or Unavailable(self.servers.location.shown)
            if result.moved or result.aside or gone:
                self.refreshed(result.moved)
            if high_water is not None and (result.moved or result.aside or result.asked or gone):
                self.raise_everywhere(high_water)
            left = result.missed
            if follow:
                left = sorted([*left, *self._on_their_way(commands, scripts, result.asked, answers)])
            if not left:
                return answers
        raise answers[left[0]]

    def _round(
        self,
        keys: Sequence[bytes],
        commands: Sequence[Command],
        scripts: Sequence[Script],
        left: Sequence[int],
        answers: list[Any],
        high_water: HighWater | None,
    ) -> _Round:
        result, sent = _Round(), list[tuple[list[int], Node, PendingEach]]()
        needed = scripts if high_water is None else (SHARD_RAISE, *scripts)
        for shard, part in self.slots.by_shard([keys[i] for i in left]).items():
            mine, node = [left[i] for i in part], self.node(shard)
            head = [] if high_water is None else [_raising(shard.meta, high_water)]
            sent.append((mine, node, node.send_each([*head, *(commands[i] for i in mine)], needed)))
        for mine, node, pending in sent:
            try:
                got = node.receive_each(pending)
            except NotReached as bad:
                result.gone = bad
                result.missed += mine
                continue
            except HeadwaterError as bad:
                result.failed = result.failed or bad
                continue
            result.aside |= any(isinstance(answer, Moved) for answer in got[: -len(mine)])
            for i, answer in zip(mine, got[-len(mine) :], strict=True):
                answers[i] = answer
                if not isinstance(answer, Moved) or answer.owner is None:
                    continue
                if answer.asking:
                    result.asked.setdefault(answer.owner, []).append(i)
                else:
                    result.moved[slot_of(keys[i])] = answer.owner
                    result.missed.append(i)
        return result

    def _on_their_way(
        self,
        commands: Sequence[Command],
        scripts: Sequence[Script],
        asked: Mapping[Address, Sequence[int]],
        answers: list[Any],
    ) -> list[int]:
        """Send commands where their slots are on their way to; the indices of those that are not there any more."""
        back = []
        for address, part in asked.items():
            got = self.servers.node(address).each([commands[i] for i in part], scripts, asking=True)
            for i, answer in zip(part, got, strict=True):
                answers[i] = answer
                if isinstance(answer, Moved) and answer.owner:
                    back.append(i)
        return back

    def script(self, script: Script, keys: Sequence[bytes], values: Sequence[Any]) -> Any:
        """The answer of a script whose keys, some of which it makes itself, share a slot.

        While the slot is on its way to another shard some keys are there and some here: it is waited for.

        Raises:
            Unavailable: it did not arrive in time, or its shard does not answer.
        """
        command, began = ("EVALSHA", script.sha, len(keys), *keys, *values), time.monotonic()
        while True:
            answer = self.ask(keys[:1], [command], (script,), follow=False)[0]
            if not isinstance(answer, Moved):
                return answer
            if time.monotonic() - began > _ARRIVES:
                raise answer
            time.sleep(0.02)

    def raise_everywhere(self, high_water: HighWater) -> None:
        """Raise a high-water mark on every shard, as the map has them."""
        slots = [shard.meta for shard in self.shards()]
        self.ask([meta_hash(slot) for slot in slots], [_raising(slot, high_water) for slot in slots], (SHARD_RAISE,))

    def each_shard(
        self,
        commands: Callable[[Shard], Sequence[Command]],
        timeout: float | None = None,
        good: Callable[[list[Any]], bool] = lambda answers: True,
    ) -> list[tuple[Shard, list[Any]]]:
        """Every shard and its primary's answers; asked again where one is not a shard's primary any more.

        Args:
            commands: for a shard.
            timeout: seconds for each answer; None: as configured.
            good: whether answers are a primary's.

        Raises:
            Unavailable: a shard does not answer.
        """
        failed: HeadwaterError | None = None
        for pause in PAUSES:
            if failed is not None and pause > PAUSES[1] and not isinstance(failed, Moved | NotPrimary):
                break
            time.sleep(pause)
            sent = [(s, self.node(s).send_each(commands(s), timeout=timeout)) for s in self.refreshed()]
            results, failed = list[tuple[Shard, list[Any]]](), None
            for shard, pending in sent:
                try:
                    answers = self.node(shard).receive_each(pending)
                except Unavailable as bad:
                    failed = failed or bad
                    continue
                for answer in answers:
                    if isinstance(answer, Moved):
                        failed = failed or answer
                if failed is None and not good(answers):
                    failed = NotPrimary(f"{self.node(shard).where} is no longer a primary")
                results.append((shard, answers))
            if failed is None:
                return results
        assert failed is not None
        raise failed


def _raising(slot: int, high_water: HighWater) -> Command:
    key, number = high_water
    return "EVALSHA", SHARD_RAISE.sha, 1, meta_hash(slot), key, number.to_bytes(8, "big")
