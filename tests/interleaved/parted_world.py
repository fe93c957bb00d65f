"""A store of several shards for the work on window rows: slots move between them with their rows, a shard fails over
alone and loses its last writes, is emptied, or begins empty. What is kept beside rows is what the Redis Cluster keeps.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from headwater.compute.windows import requests as asks
from headwater.compute.windows.shown import shown
from headwater.online.base import new_token
from headwater.online.meta import fill_record_key
from headwater.online.powers import Parted
from headwater.online.rows.windows.parts import PartRecord, part_record
from headwater.online.rows.windows.record import FillRecord, decode_record, encode_record
from headwater.online.rows.windows.row import WindowRow
from headwater.online.stores.redis.cluster_claims import ShardPart
from headwater.online.stores.redis.cluster_entries import (
    ShardRead,
    ShardState,
    StartShard,
    entry_of,
    history_of,
    narrowed,
    of_rows,
    pack_epoch,
    spoken_for,
    still_held,
    unpack_epoch,
)
from headwater.online.stores.redis.cluster_records import unpack_claim
from headwater.online.stores.redis.slots import ALL_SLOTS, slot_of
from tests.interleaved.window_world import LAYOUT, World, _decoded

RECORD = fill_record_key("p", "v", "1.0.0")
TOKEN = b"token"
FIXED = (0, 5632, 8192, 11008)
"""Where shards keep their entries, of those slots that they have; a shard without one takes its lowest."""
THIRD = (1 << 5461) - 1

Key = bytes | tuple[bytes, int]
"""Of a row, or of an entry and the slot that it is in."""


@dataclass(eq=False)
class Shard:
    """A primary with a replica that lags."""

    number: int
    slots: int
    epoch: int
    life: int = 0
    replication: str = "r0"
    ops: list[tuple[Key, Any]] = field(default_factory=list)
    data: dict[Key, Any] = field(default_factory=dict)
    left: set[int] = field(default_factory=set)
    """The slots that went elsewhere since it wrote its record."""
    kept: int = 0
    """How many of its writes no failover loses."""
    leaving: int = 0
    """Those of its slots that are on their way."""
    failed: bool = False
    """Whether it failed over since."""

    @property
    def main(self) -> int:
        """The slot of its entries."""
        fixed = [slot for slot in FIXED if self.slots >> slot & 1]
        return fixed[0] if fixed else (self.slots & -self.slots).bit_length() - 1

    @property
    def state(self) -> ShardState:
        name = f"{self.number}.{self.life}"
        slots, leaving = self.slots & ~self.leaving, self.leaving
        return ShardState(b"", name, self.epoch, slots, leaving, (f"{self.number}.{self.life + 1}",), self.replication)

    def set(self, key: Key, value: Any) -> None:
        """None removes it."""
        self.ops.append((key, value))
        self._apply(key, value)

    def _apply(self, key: Key, value: Any) -> None:
        if value is None:
            self.data.pop(key, None)
        else:
            self.data[key] = value

    def again(self, ops: Iterable[tuple[Key, Any]], owned: Any) -> None:
        """Begin again with some writes; keys of slots that it does not have are dropped."""
        self.ops, self.data = list(ops), {}
        for key, value in self.ops:
            if owned(key):
                self._apply(key, value)


def _slot(key: Key) -> int:
    return slot_of(key) if isinstance(key, bytes) else key[1]


class PartedWorld(World):
    """`World` over shards."""

    def __init__(self, r: random.Random, bad: str = "") -> None:
        super().__init__(r, bad)
        thirds = [THIRD, THIRD << 5461, ALL_SLOTS & ~(THIRD | THIRD << 5461)]
        self.shards = [Shard(i, slots, i + 1) for i, slots in enumerate(thirds)]
        self.lives = 0

    # what is stored

    def shard(self, slot: int) -> Shard:
        return next(shard for shard in self.shards if shard.slots >> slot & 1)

    def at(self, key: bytes) -> Shard:
        return self.shard(slot_of(key))

    def row(self, key: bytes) -> WindowRow | None:
        data = self.at(key).data.get(key)
        return None if data is None else _decoded(data)

    def reads(self) -> list[ShardRead]:
        made = []
        for shard in self.shards:
            if shard.slots:
                slot = shard.main
                values = {RECORD: shard.data.get((RECORD, slot))}
                made.append(ShardRead(shard.state, slot, shard.data.get((TOKEN, slot)), values))
        return made

    def take_epoch(self) -> bytes:
        for shard in self.shards:
            if shard.slots and (TOKEN, shard.main) not in shard.data:
                shard.set((TOKEN, shard.main), new_token())
        return pack_epoch(self.reads())

    @property
    def record(self) -> FillRecord | None:
        data = of_rows(RECORD, self.reads())
        return None if data is None else decode_record(data)

    def part(self, key: bytes) -> PartRecord:
        shard = self.at(key)
        claim = unpack_claim(shard.data.get((RECORD, shard.main)))
        return part_record(Parted({key: ShardPart(claim, shard.state.of_node)}), key)

    def promised(self, key: bytes) -> FillRecord | None:
        record, speaks = self.part(key)
        if self.bad == "moved-speaks":
            return record
        return record if speaks else None

    def shown(self, key: bytes) -> WindowRow | None:
        return shown(LAYOUT, self.promised(key), self.row(key))

    def set(self, key: bytes, value: Any) -> None:
        self.at(key).set(key, value)

    # work

    def read(self, request: asks.ReadRows) -> Generator[None, None, asks.Snapshot]:
        epoch, keys = self.take_epoch(), request.keys
        yield
        epoch = epoch if request.epoch else None
        if not keys:
            return asks.Snapshot(epoch, self.record)
        rows: dict[bytes, WindowRow | asks.DamagedRow | None] = {}
        parts: dict[bytes, Any] = {}
        apart = self.r.random() < 0.5
        while len(rows) < len(keys):
            key = next(key for key in keys if key not in rows)
            shard = self.at(key)
            claim = unpack_claim(shard.data.get((RECORD, shard.main)))
            mine = list[bytes]()
            for key in [key for key in keys if key not in rows and self.at(key) is shard]:
                if apart:
                    yield
                if self.at(key) is shard:
                    rows[key] = self.row(key)
                    mine.append(key)
            # behind the rows: so that no slot came and went between
            parts |= dict.fromkeys(mine, ShardPart(claim, shard.state.of_node))
        entry = Parted(parts)
        return asks.Snapshot(epoch, None, rows, {key: part_record(entry, key) for key in keys})

    def swap_all(self, request: asks.SwapRows) -> Generator[None, None, list[bool]]:
        swaps = request.swaps
        held = {swap.epoch: self.held(swap.epoch) for swap in swaps if swap.epoch is not None}
        done = []
        for swap in swaps:
            yield
            same = True
            if swap.epoch is not None:
                replication = history_of(held[swap.epoch] or [], slot_of(swap.key))
                same = replication == self.at(swap.key).replication.encode()
            done.append(same and self.swap(asks.Swap(swap.key, swap.sequence, swap.row)))
        return done

    def held(self, epoch: bytes) -> list[StartShard] | None:
        return still_held(unpack_epoch(epoch), unpack_epoch(self.take_epoch()))

    def narrow(self, request: asks.NarrowEpoch) -> tuple[Any, set[bytes]] | None:
        if spoken_for(unpack_epoch(request.epoch), self.reads()) is None:
            return None
        epoch = narrowed(request.epoch, self.take_epoch())
        return epoch, {k for k in request.keys if history_of(unpack_epoch(epoch), slot_of(k)) is None}

    def write_record(self, given: asks.WriteRecord) -> Generator[None, None, asks.Written]:
        data, begun = encode_record(given.record), False
        for _ in range(5):
            reads = self.reads()
            if self.record != given.expected and not (begun and self.record == given.record):
                return asks.Written.CHANGED
            slots = spoken_for(unpack_epoch(given.epoch), reads)
            if slots is None:
                return asks.Written.EPOCH
            yield
            entries = {
                read.state.id: entry_of(RECORD, data, read.state, slots[read.state.id], read.values[RECORD])
                for read in reads
                if read.state.id in slots
            }
            copies = [
                (shard, slot, shard.data.get((RECORD, slot)), shard.replication)
                for shard in self.shards
                if shard.slots
                for slot in (*FIXED, (shard.slots & -shard.slots).bit_length() - 1)
                if shard.state.id in slots and shard.slots >> slot & 1 and slot != shard.main
            ]
            yield
            reads.sort(key=lambda read: not read.state.slots & 1)
            for read in reads:
                yield
                shard = next(s for s in self.shards if s.number == int(read.state.id.partition(".")[0]))
                there, at = shard.slots >> read.slot & 1, (RECORD, read.slot)
                speaks = read.state.id in slots
                token = not speaks or shard.data.get((TOKEN, read.slot)) == read.token
                same = not speaks or shard.replication == read.state.replication
                if not there or not token or not same or shard.data.get(at) != read.values[RECORD]:
                    break
                if speaks:
                    shard.set(at, entries[read.state.id])
                begun = True
            else:
                self.count["fills"] += given.record.fill > (given.expected.fill if given.expected else 0)
                for shard, slot, before, replication in copies:
                    yield
                    name = f"{shard.number}.{shard.life}"
                    at = (RECORD, slot)
                    if shard.slots >> slot & 1 and replication == shard.replication and shard.data.get(at) == before:
                        shard.set(at, entries[name])
                for shard in self.shards:
                    if shard.state.id in slots and shard.data.get((RECORD, shard.main)) == entries[shard.state.id]:
                        # a failover that brings back what was before would know nothing of the slots that were away
                        shard.kept = len(shard.ops) if shard.left or shard.failed else shard.kept
                        shard.left, shard.failed = set(), False
                return asks.Written.DONE
        return asks.Written.CHANGED

    # what goes wrong

    def move(self, slot: int, to: Shard) -> None:
        """A slot goes to another shard, with its keys."""
        source = self.shard(slot)
        if source is to or (to.failed and slot in to.left):
            # a record from before a failover counts after it, and does not tell then that a slot was away: no read
            # could know that (the next run does, by the shard that had it meanwhile)
            return
        source.left.add(slot)
        self.count["moved"] += 1
        for key in [key for key in source.data if _slot(key) == slot]:
            to.set(key, source.data[key])
            source.set(key, None)
        source.slots &= ~(1 << slot)
        source.leaving &= ~(1 << slot)
        to.slots |= 1 << slot
        most = max(shard.epoch for shard in self.shards)
        if to.epoch != most or sum(shard.epoch == most for shard in self.shards) > 1:
            to.epoch = most + 1

    def move_about(self, keys: Sequence[bytes]) -> None:
        """Some slots go elsewhere, or to a shard that has just begun; at times they come back at once."""
        if len(self.shards) < 5 and self.r.random() < 0.1:
            self.shards.append(Shard(len(self.shards), 0, 0))
        slots = [slot_of(key) for key in keys] + list(FIXED)
        for slot in self.r.sample(slots, self.r.choice([1, 1, 3])):
            home = self.shard(slot)
            away = self.r.choice([shard for shard in self.shards if shard is not home])
            if slot not in FIXED and slot != home.main and self.r.random() < 0.3:
                # begins, or is called off
                home.leaving ^= 1 << slot
                continue
            self.move(slot, away)
            if self.r.random() < 0.2:
                if self.r.random() < 0.5:
                    self.fail_over(away)
                self.move(slot, home)

    def fail_over(self, shard: Shard | None = None) -> None:
        """The replica of a shard takes over, without the last writes."""
        shard = shard or self.r.choice([shard for shard in self.shards if shard.slots])
        if any(shard.slots >> slot & 1 for slot in shard.left):
            return
        shard.failed = True
        mine = [i for i, (key, _) in enumerate(shard.ops) if not isinstance(key, bytes)]
        fewer = [max(0, len(shard.ops) - n) for n in (1, 2, 5, 20)]
        count = max(shard.kept, self.r.choice([max(mine, default=0), *fewer]))
        shard.again(shard.ops[:count], lambda key: shard.slots >> _slot(key) & 1)
        self.lives += 1
        shard.life += 1
        shard.replication = f"r{shard.number}.{self.lives}"
        shard.epoch = max(each.epoch for each in self.shards) + 1
        self.lose()

    def flush(self) -> None:
        """One shard is emptied; at times it is one that has started anew."""
        shard = self.r.choice([shard for shard in self.shards if shard.slots])
        shard.ops, shard.data, shard.kept = [], {}, 0
        if self.r.random() < 0.5:
            self.lives += 1
            shard.replication = f"r{shard.number}.{self.lives}"
        self.lose()

    def shows(self) -> list[int]:
        found = []
        for shard in self.shards:
            for key, value in shard.data.items():
                if isinstance(key, bytes):
                    row = _decoded(value)
                    found += [row.applied_through, row.delete_position, *row.listed]
                elif key[0] == RECORD:
                    claim = unpack_claim(value)
                    found += [claim.record.low] if claim is not None else []
        return found
