"""Reads of fill records with the rows that they speak for: each shard's own, fetched in the pipeline of its rows.

What a node says of itself, by which its claims are judged, is asked for once a second, behind the rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headwater.online.powers import Parted
from headwater.online.rows.keys import META_PREFIX
from headwater.online.rows.windows.record import encode_record
from headwater.online.stores.redis.answers import Command
from headwater.online.stores.redis.cluster_records import Claim, NodeState, unpack_claim
from headwater.online.stores.redis.info import info
from headwater.online.stores.redis.slot_map import Shard, Slots
from headwater.online.stores.redis.slots import meta_hash, slot_of
from headwater.online.stores.redis.url import Address

_LOOK = 1.0
"""Seconds after which a node is asked again what it is, and a claim that does not hold is looked for again."""
_STATE: tuple[Command, ...] = (("CLUSTER", "MYID"), ("CLUSTER", "INFO"), ("INFO", "replication"))


class ShardPart:
    """One shard's fill record, for the rows that were read with it.

    Args:
        claim: as it is stored; None: there is none.
        state: what its node says of itself.
        there: whether the rows were there too; else they are on their way to another shard.

    Attributes:
        entry: the record; None: there is none.
    """

    def __init__(self, claim: Claim | None, state: NodeState, there: bool = True) -> None:
        self.entry = None if claim is None else encode_record(claim.record)
        self._slots = 0 if claim is None or not there or not claim.record.fill else claim.spoken(state)

    def speaks_for(self, key: bytes) -> bool:
        """As `Part.speaks_for`."""
        return bool(self._slots >> slot_of(key) & 1)


@dataclass
class ClaimReads:
    """The fill records of one read.

    Attributes:
        slots: the map.
        records: their keys.
        parts: record → key of a row → the part that it was read from.
        again: whether what does not hold was looked for again.
    """

    slots: Slots
    records: Sequence[bytes]
    parts: dict[bytes, dict[bytes, ShardPart]] = field(init=False)
    again: bool = False

    def __post_init__(self) -> None:
        self.parts = {record: {} for record in self.records}

    def before(self, shard: Shard) -> Command:
        """What is asked before the rows."""
        return ("HMGET", meta_hash(shard.meta), *self.records)

    def behind(self, node: Address) -> tuple[Command, ...]:
        """What is asked behind them."""
        looked, _ = self.slots.states.get(node, (-_LOOK, None))
        return _STATE if self.again or time.monotonic() - looked >= _LOOK else ()

    def take(self, node: Address, stored: Sequence[Any], state: Sequence[Any], there: Iterable[bytes]) -> None:
        """What a node answered to both, and the keys of the rows that it had."""
        if state:
            name, cluster, replication = state
            epoch = int(info(cluster).get("cluster_my_epoch", "0"))
            known = NodeState(name.decode(), epoch, info(replication).get("master_replid", ""))
            self.slots.states[node] = time.monotonic(), known
        else:
            _, known = self.slots.states[node]
        keys = [key for key in there if not key.startswith(META_PREFIX)]
        for record, data in zip(self.records, stored, strict=True):
            part = ShardPart(unpack_claim(data), known)
            self.parts[record].update(dict.fromkeys(keys, part))

    def away(self, stored: Sequence[Any], node: Address, keys: Iterable[bytes]) -> None:
        """Rows that are on their way to another shard: nothing is said of those that are missing."""
        _, known = self.slots.states[node]
        some = list(keys)
        for record, data in zip(self.records, stored, strict=True):
            part = ShardPart(unpack_claim(data), known, there=False)
            self.parts[record].update(dict.fromkeys(some, part))

    def unsure(self, keys: Sequence[bytes], rows: Sequence[bytes | None]) -> list[int]:
        """The indices of the keys whose rows no record speaks for, where it is time to look again."""
        if self.again or time.monotonic() - self.slots.looked < _LOOK:
            return []
        parts = list(self.parts.values())
        found = [
            i
            for i, (key, row) in enumerate(zip(keys, rows, strict=True))
            if any(key in p and (p[key].entry is None or (row is None and not p[key].speaks_for(key))) for p in parts)
        ]
        if found:
            self.again, self.slots.looked = True, time.monotonic()
        return found

    def entries(self) -> Mapping[bytes, bytes | None]:
        """What the read gives under the keys of the records."""
        return {record: Parted(parts) if parts else None for record, parts in self.parts.items()}
