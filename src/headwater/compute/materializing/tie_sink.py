"""Ties of a run settled by processes of an engine, where the rows of the source are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headwater.compute.materializing.force_sink import key_number
from headwater.compute.materializing.replacing import Sequences
from headwater.compute.materializing.sink import OnlineSink, Part, Total
from headwater.compute.materializing.source_ties import same_values
from headwater.compute.writing.swap import swap_all
from headwater.online.base import Change
from headwater.online.meta import greatest_key
from headwater.online.rows.codec import replaced, sequence_of


@dataclass(frozen=True)
class TieSink(OnlineSink):
    """Puts history's choice among the source's rows of each key and time; values alone.

    It answers the numbers of the keys (`key_number`) whose rows have another sequence by now than the run read, and the
    keys for which the source is to be asked again. A row of the same values is put again too: then nothing that another
    process has read before can take its place.

    Attributes:
        stored: the sequences of the rows, as the run read them before the source was asked, by `key_number`.
    """

    stored: Sequences

    def _put(self, part: Part, total: Total) -> None:
        online = part.online
        large = set(part.gone)
        changes: list[Change] = []
        differ: list[bool] = []
        moved: list[bytes] = []
        again: list[bytes] = []
        for i, ((key, new), row) in enumerate(zip(part.pairs, online.multi_get(part.keys()), strict=True)):
            sequence = self.stored.of_number(key_number(key))
            same = same_values(row, new)
            if sequence_of(row) != sequence:
                moved.append(key)
                if same is False:
                    again.append(key)
            elif same is not None and i not in large:
                wanted = replaced(row, new)
                if online.capabilities.takes(key, wanted):
                    changes.append((key, sequence, wanted))
                    differ.append(not same)
        done = swap_all(online, changes, part.until, (greatest_key(self.project), 0))
        total.applied += sum(swapped and other for swapped, other in zip(done, differ, strict=True))
        again += [key for (key, _, _), swapped in zip(changes, done, strict=True) if not swapped]
        moved += [key for key, _, _ in changes]
        total.numbers.append(np.fromiter(map(key_number, moved), np.int64, len(moved)))
        total.again += part.whole(again)
