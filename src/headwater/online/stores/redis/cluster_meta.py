"""Entries beside rows on a Redis Cluster: on every shard, in one hash each, written where the shard is what it was."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from headwater.errors import Unavailable
from headwater.online.base import Epoch, HighWater, Row, new_token
from headwater.online.meta import is_fill_record
from headwater.online.rows.keys import META_PREFIX
from headwater.online.stores.redis.answers import Command
from headwater.online.stores.redis.cluster_calls import PAUSES, ClusterCalls
from headwater.online.stores.redis.cluster_entries import (
    ShardRead,
    ShardState,
    all_slots_once,
    avoiding,
    entry_of,
    is_of_store,
    of_rows,
    of_store,
    pack_epoch,
    spoken_for,
    unpack_epoch,
    with_values,
)
from headwater.online.stores.redis.errors import Moved
from headwater.online.stores.redis.scripts import SHARD_READ, SHARD_WRITE
from headwater.online.stores.redis.single import escaped, flagged, high_bytes
from headwater.online.stores.redis.slot_map import Shard
from headwater.online.stores.redis.slots import META_SLOTS, meta_hash, tag_of

TAGGED = re.compile(rb"\{\d+\}(?=" + re.escape(META_PREFIX) + b")")
"""What stands before an entry's key where an earlier release kept it: a text in the shard's first slot."""


@dataclass(frozen=True)
class _View:
    """What all shards have of some entries.

    Attributes:
        reads: shard by shard.
        whole: the entries by key, as they are for the whole cluster.
    """

    reads: Sequence[ShardRead]
    whole: Mapping[bytes, bytes | None]


@dataclass(frozen=True)
class _Change:
    """What `OnlineStore.put_meta` is given; see there.

    Attributes:
        entries, expected, high_water: as they are given.
        token_key: the token's key; empty: the epoch is not compared.
        copies: whether they are copies of what a shard has: the replication alone is compared.
    """

    entries: Mapping[bytes, bytes | None]
    expected: Mapping[bytes, bytes | None]
    token_key: bytes
    high_water: HighWater | None
    copies: bool = False

    def of_fills(self) -> _Change:
        """The copies of fill records, each in place of what was read before the records themselves were written."""
        fills = {key: data for key, data in self.entries.items() if data is not None and is_fill_record(key)}
        return _Change(fills, dict.fromkeys(fills), b"", None, copies=True)

    def allows(self, whole: Mapping[bytes, bytes | None], begun: bool) -> bool:
        """Whether entries are as expected, or once it was begun, as they are to be."""
        return all(
            whole[key] == data or (begun and key in self.entries and whole[key] == self.entries[key])
            for key, data in self.expected.items()
        )


@dataclass(frozen=True)
class _Spoken:
    """What shards are to have of the entries of rows.

    Attributes:
        slots: id of a shard → the slots that it speaks for.
        entries: the same → the entries, as it stores them.
    """

    slots: Mapping[str, int]
    entries: Mapping[str, Mapping[bytes, bytes]]


def _entries_of(read: ShardRead, slots: int, entries: Mapping[bytes, bytes | None]) -> dict[bytes, bytes]:
    return {
        key: entry_of(key, data, read.state, slots, read.values.get(key))
        for key, data in entries.items()
        if data is not None and not is_of_store(key)
    }


class ClusterMeta:
    """Reads and writes entries beside rows.

    Args:
        calls: asks the shards.
    """

    def __init__(self, calls: ClusterCalls) -> None:
        self._calls = calls

    def read(self, keys: Sequence[bytes]) -> dict[bytes, bytes | None]:
        """Entries as they are for the whole cluster; None where there is none."""
        of_rows_ = [key for key in keys if not is_of_store(key)]
        entries = self._of_store([key for key in keys if is_of_store(key)])
        return {**entries, **self._view(of_rows_).whole} if of_rows_ else entries

    def epoch(self, key: bytes) -> bytes:
        """As `OnlineStore.epoch`: of each shard its token, the id of its replication, and its slots."""
        return pack_epoch(self._view([], key, new_token()).reads)

    def put(
        self,
        entries: Mapping[bytes, bytes | None],
        expected: Mapping[bytes, bytes | None],
        epoch: Epoch | None,
        high_water: HighWater | None,
    ) -> bool:
        """As `OnlineStore.put_meta`, shard by shard: the owner of slot 0 first, which one alone of two writers gets.

        Where another shard then is not what it was any more, some have the new entries and some the old ones.
        """
        change = _Change(entries, expected, b"" if epoch is None else epoch[0], high_water)
        begun = False
        for pause in PAUSES:
            time.sleep(pause)
            view = self._view([*dict.fromkeys((*expected, *entries))], change.token_key)
            if not change.allows(view.whole, begun):
                return False
            slots: Mapping[str, int] | None = {read.state.id: read.state.slots for read in view.reads}
            if epoch is not None:
                slots = spoken_for(unpack_epoch(epoch[1]), view.reads)
            if slots is None:
                return False
            mine = [read for read in view.reads if read.state.id in slots]
            copies = self._copies(entries, mine)
            spoken = _Spoken(slots, {r.state.id: _entries_of(r, slots[r.state.id], entries) for r in mine})
            first = next((read for read in view.reads if (read.state.slots | read.state.leaving) & 1), view.reads[0])
            if not self._write([first], spoken, change, alone=True):
                continue
            begun = True
            if self._write([read for read in view.reads if read is not first], spoken, change):
                self._write(copies, spoken, change.of_fills())
                self._remove_strays(entries, view)
                return True
        raise Unavailable(f"{self._calls.servers.location.shown}: its slots keep moving; try again")

    def delete(self, keys: Sequence[bytes]) -> None:
        """Remove entries from all shards."""
        hashes = self._hashes()
        self._calls.ask(hashes, [("HDEL", name, *keys) for name in hashes])
        self._unlink_tagged(keys)

    def scan(self, prefix: bytes) -> Iterator[Row]:
        """The entries with a prefix; not those of an earlier release, which only their own keys find."""
        keys = dict.fromkeys(key for name in self._hashes() for key in self._fields(name, prefix))
        some = list(keys)
        for start in range(0, len(some), 500):
            for key, data in self.read(some[start : start + 500]).items():
                if data is not None:
                    yield key, data

    def count(self) -> int:
        """How many keys of the servers hold entries."""
        hashes = self._hashes()
        return sum(self._calls.ask(hashes, [("EXISTS", name) for name in hashes]))

    # reading

    def _hashes(self) -> list[bytes]:
        """Every hash that may hold entries of the store as a whole, also those of slots that have moved."""
        return [meta_hash(slot) for slot in dict.fromkeys((*META_SLOTS, *(s.meta for s in self._calls.shards())))]

    def _of_store(self, keys: Sequence[bytes]) -> dict[bytes, bytes | None]:
        if not keys:
            return {}
        hashes = self._hashes()
        answers = self._calls.ask(hashes, [("HMGET", name, *keys) for name in hashes])
        old = self._tagged(keys, self._calls.shards())
        return {key: of_store([*(answer[i] for answer in answers), *old[key]]) for i, key in enumerate(keys)}

    def _tagged(self, keys: Sequence[bytes], shards: Iterable[Shard]) -> dict[bytes, list[bytes | None]]:
        """What an earlier release left under these keys, shard by shard."""
        firsts = [tag_of(shard.first) for shard in shards]
        names = [tag + key for key in keys for tag in firsts]
        answers = self._calls.ask(names, [("GET", name) for name in names], follow=False)
        found = [None if isinstance(answer, Moved) else answer for answer in answers]
        return {key: found[i * len(firsts) : (i + 1) * len(firsts)] for i, key in enumerate(keys)}

    def _view(self, keys: Sequence[bytes], token_key: bytes = b"", fresh: bytes = b"") -> _View:
        """What all shards have under some keys, and their tokens.

        Args:
            keys: of the entries.
            token_key: the token's; empty: it is not asked for.
            fresh: a token to put where there is none.

        Returns:
            Their answers, of one moment where slots were not moved about all the while; else no entry of rows counts.

        Raises:
            Unavailable: a shard does not answer.
        """
        avoided, reads, settled = set[int](), list[ShardRead](), False
        for pause in PAUSES:
            time.sleep(pause)
            reads, sound = self._reads(keys, token_key, fresh, avoided)
            settled = sound and all_slots_once(reads)
            if settled:
                break
        of_shards = [key for key in keys if not is_of_store(key)]
        every = self._with_tagged(reads, of_shards)
        whole = {key: of_rows(key, every) if settled else None for key in of_shards}
        return _View(reads, {**self._of_store([key for key in keys if is_of_store(key)]), **whole})

    def _reads(
        self, keys: Sequence[bytes], token_key: bytes, fresh: bytes, avoided: set[int]
    ) -> tuple[list[ShardRead], bool]:
        """What each shard has, and whether no slot that was asked is on its way; such are avoided from then on."""
        slots = [avoiding(shard.slots, avoided) for shard in self._calls.refreshed()]
        names = [meta_hash(slot) for slot in slots]
        commands: list[Command] = [("EVALSHA", SHARD_READ.sha, 1, name, token_key, fresh, *keys) for name in names]
        answers, reads = self._calls.ask(names, commands, (SHARD_READ,), follow=False), list[ShardRead]()
        before = len(avoided)
        for slot, answer in zip(slots, answers, strict=True):
            if isinstance(answer, Moved):
                avoided.add(slot)
                continue
            text, replicas, replication, token, values = answer
            state = ShardState.parse(text, replicas, replication)
            if state.leaving >> slot & 1:
                avoided.add(slot)
            reads.append(ShardRead(state, slot, token, dict(zip(keys, values, strict=True))))
        return reads, len(avoided) == before

    def _with_tagged(self, reads: Sequence[ShardRead], keys: Sequence[bytes]) -> list[ShardRead]:
        """The reads with what an earlier release left, where it is all that a shard has."""
        missing = [key for key in keys if any(read.values[key] is None for read in reads)]
        if not missing:
            return list(reads)
        shards = {shard.first: i for i, shard in enumerate(self._calls.shards())}
        old = self._tagged(missing, self._calls.shards())
        result = []
        for read in reads:
            slots = read.state.slots
            at = shards.get((slots & -slots).bit_length() - 1)
            mine = {} if at is None else {key: old[key][at] for key in missing}
            result.append(with_values(read, mine))
        return result

    def _fields(self, name: bytes, prefix: bytes) -> Iterator[bytes]:
        pattern, cursor = escaped(prefix) + b"*", b"0"
        while True:
            command = ("HSCAN", name, cursor, "MATCH", pattern, "COUNT", 1_000)
            cursor, flat = self._calls.ask([name], [command])[0]
            yield from flat[::2]
            if cursor == b"0":
                return

    # writing

    def _copies(self, entries: Mapping[bytes, bytes | None], reads: Sequence[ShardRead]) -> list[ShardRead]:
        """Where fill records are written once more, as if each were a shard: where entries are once slots have moved.

        So a shard that loses the slot of its own entries has its fill records still, and what it is read for stays.
        """
        keys = [key for key, data in entries.items() if data is not None and is_fill_record(key)]
        if not keys:
            return []
        found = [
            replace(read, slot=slot, token=None)
            for read in reads
            if read.state.slots
            for slot in dict.fromkeys((*META_SLOTS, (read.state.slots & -read.state.slots).bit_length() - 1))
            if read.state.slots >> slot & 1 and slot != read.slot
        ]
        names = [meta_hash(read.slot) for read in found]
        answers = self._calls.ask(names, [("HMGET", name, *keys) for name in names], follow=False)
        return [
            replace(read, values=dict(zip(keys, values, strict=True)))
            for read, values in zip(found, answers, strict=True)
            if not isinstance(values, Moved)
        ]

    def _write(self, reads: Sequence[ShardRead], spoken: _Spoken, change: _Change, *, alone: bool = False) -> bool:
        """Write the entries on some shards; whether all were what they were when the view was read.

        Args:
            reads: the shards.
            spoken: the slots that shards speak for; others keep the entries of rows that they have.
            change: what to write.
            alone: whether of two writers who expect the same of the whole store one alone is to succeed here.
        """
        names = [meta_hash(read.slot) for read in reads]
        compared = alone and any(is_of_store(key) for key in change.expected)
        commands: list[Command] = []
        for name, read in zip(names, reads, strict=True):
            slots, state = spoken.slots.get(read.state.id), read.state
            wanted = {key: read.values[key] for key in change.expected}
            replication = ""
            if change.token_key and slots is not None:
                wanted[change.token_key] = read.token
            if (change.token_key or change.copies) and slots is not None:
                replication = state.replication
            own = {key: data for key, data in change.entries.items() if data is None or is_of_store(key)}
            if slots is not None:
                own |= {key: data for key, data in spoken.entries[state.id].items() if key in change.entries}
            values = [v for key, data in (*wanted.items(), *own.items()) for v in (key, *flagged(data))]
            raises = change.high_water is not None and (slots is not None or is_of_store(change.high_water[0]))
            high = high_bytes(change.high_water if raises else None)
            fixed = (state.text if compared else "", replication, *high, len(wanted))
            commands.append(("EVALSHA", SHARD_WRITE.sha, 1, name, *fixed, *values))
        return all(answer == 1 for answer in self._calls.ask(names, commands, (SHARD_WRITE,), follow=False))

    def _remove_strays(self, entries: Mapping[bytes, bytes | None], view: _View) -> None:
        """Remove what shards that had other slots, or an earlier release, left under keys that were written.

        Of the rows' entries those that were removed: others speak where their shard is again what it was.
        """
        current = {meta_hash(read.slot) for read in view.reads}
        gone = [key for key, data in entries.items() if data is None]
        keys = list(dict.fromkeys((*gone, *(key for key in entries if is_of_store(key)))))
        names = [n for n in self._hashes() if n not in current]
        if keys:
            self._calls.ask(names, [("HDEL", name, *keys) for name in names])
        self._unlink_tagged(list(entries))

    def _unlink_tagged(self, keys: Iterable[bytes]) -> None:
        names = [tag_of(shard.first) + key for key in keys for shard in self._calls.shards()]
        self._calls.ask(names, [("UNLINK", name) for name in names])
