"""Rows of a force run made equal to history by processes of an engine, where the rows of history are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from headwater.compute.materializing.replacing import Sequences, is_same, replacing
from headwater.compute.materializing.sink import OnlineSink, Part, Total
from headwater.compute.writing.swap import swap_all
from headwater.online.base import PutOutcome, Row
from headwater.online.meta import greatest_key


@dataclass(frozen=True)
class ForceSink(OnlineSink):
    """Puts history's rows in the place of what is stored, whatever its times; values alone.

    Without `stored` it puts under the guard alone, and names the keys whose rows are others: nothing is replaced then
    that the run has not read before it read history.

    Attributes:
        stored: the sequences of the rows of the keys asked for, as the run read them before history, by `key_number`.
        tombstones: of those of these keys that the log has a delete of, P and D in stored form.
        numbers: whether the keys that history has are said, as `key_number`.
    """

    stored: Sequences | None = None
    tombstones: Mapping[bytes, bytes] = field(default_factory=dict)
    numbers: bool = True

    def _put(self, part: Part, total: Total) -> None:
        keys = part.keys()
        before = part.online.multi_get(keys)
        outcomes = self._put_guarded(part)
        total.keys += len(keys)
        total.too_large += part.too_large(outcomes)
        if self.numbers:
            total.numbers.append(np.fromiter(map(key_number, keys), np.int64, len(keys)))
        if self.stored is None:
            again = self._other(part.pairs, before, outcomes, total)
        else:
            again = self._replaced(self.stored, part, before, outcomes, total)
        total.again += part.whole(again)

    def _other(
        self, pairs: list[Row], before: list[bytes | None], outcomes: list[PutOutcome], total: Total
    ) -> list[bytes]:
        """The keys of which something else is stored after a put under the guard."""
        there = zip(pairs, before, outcomes, strict=True)
        total.applied += sum(each is PutOutcome.APPLIED and not is_same(row, new) for (_, new), row, each in there)
        others = (PutOutcome.SUPERSEDED, PutOutcome.TIE)
        return [key for (key, _), outcome in zip(pairs, outcomes, strict=True) if outcome in others]

    def _replaced(
        self,
        stored: Sequences,
        part: Part,
        before: list[bytes | None],
        outcomes: list[PutOutcome],
        total: Total,
    ) -> list[bytes]:
        """Replace what the guard left; the keys to be looked at again: another put was first, or a row is less."""
        made = replacing(
            part.pairs,
            before,
            outcomes,
            lambda key: stored.of_number(key_number(key)),
            lambda key: self.tombstones.get(key, b""),
        )
        done = swap_all(part.online, made.changes, part.until, (greatest_key(self.project), 0))
        total.applied += made.put + sum(done)
        changed = zip(made.changes, done, made.lowered, strict=True)
        return [key for (key, _, _), swapped, lower in changed if lower or not swapped]


def key_number(key: bytes) -> int:
    """A number of a stored key, the same in every process."""
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "little", signed=True)
