"""What work on window rows asks of the online store, the log, the source and the lease; each request has one answer.

How work asks, and one conversation as an example, is in `work`. Here is all that it can ask:

| asked of | request | answer |
|---|---|---|
| store | `ReadRows` | `Snapshot`: epoch, fill record and rows |
| | `SwapRows` | for each `Swap` whether it was done |
| | `WriteRecord` | `Written` |
| | `NarrowEpoch` | a narrower epoch, and the keys that are not in it; None |
| log | `LogEnd` | `End`: its last position and its clock |
| | `BatchesOf` | key → its batches in a range of positions |
| | `SliceEnds` | the positions at which a fold may stop |
| | `DueBatches` | key → `Due`: what a fold takes of the log |
| | `KeysFarBehind` | the keys of a fold that are rather rebuilt |
| | `NextNumber` | a number greater than all before it |
| | `LastRestore` | the number of the registry's last restore |
| source | `ListSource` | `Listed`: the log's end, and what the source has |
| | `NewSourceKeys` | the keys with new source rows |
| both | `NamedKeys` | the keys that source or log names |
| | `PartsOf` | the parts in which keys are rebuilt |
| | `RebuiltRows` | key → its row from history |
| | `FillElsewhere` | the keys that processes of the engine left; None |
| lease | `TakeLease` | the number of the run |
| | `HoldsLease` | whether no later run has taken it |

Requests of several keys are of each key for itself, in any order, except that `ReadRows` reads epoch and record first,
or all in one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import msgspec

from headwater.compute.windows.work import Request
from headwater.online.rows.windows.parts import PartRecord
from headwater.online.rows.windows.record import FillRecord, SourceThrough
from headwater.online.rows.windows.row import WindowRow
from headwater.planning.windows.events import WindowEvent
from headwater.planning.windows.layout import WindowLayout

# what they speak of


@dataclass(frozen=True)
class Version:
    """The window version that is worked on.

    Attributes:
        layout: of its rows.
        tolerance: by how much clocks may differ, microseconds; batches withhold what is known later than that.
        most_listed: how many positions a row lists.
        tries: how often a put reads a row that others change.
        fold_tries: how often a fold does, before it leaves what the writers of the row are about to put.
        elsewhere: whether processes of the engine may put the rows of a run that makes all of them.
    """

    layout: WindowLayout
    tolerance: int
    most_listed: int = 256
    tries: int = 16
    fold_tries: int = 3
    elsewhere: bool = False


class Batch(NamedTuple):
    """What one transaction appended to the log of one key: statements, or a delete.

    No two transactions that append to a view with window versions have the same arrival, so that the rows of one are
    known by it wherever they are stored. All that is put, folded or rebuilt of a key goes by the key's own last
    position in the transaction: nobody has to know the transaction's other rows.

    Attributes:
        position: of the last row that it has of the key.
        arrival: the log's clock in the transaction, microseconds.
        events: its statements.
        delete: D, microseconds; None: it is no delete.
    """

    position: int
    arrival: int
    events: Sequence[WindowEvent] = ()
    delete: int | None = None


class End(NamedTuple):
    """The log's end and its clock, read in one."""

    position: int
    clock: int


class DamagedRow(NamedTuple):
    """Stands for bytes under a key that are not a row of the layout: a rebuild alone may replace them."""

    sequence: int


# the online store


@dataclass(frozen=True, slots=True)
class ReadRows(Request["Snapshot"]):
    """The epoch, the record and the rows of keys.

    Attributes:
        keys: of the rows.
        epoch: whether the epoch is read; else it is None.
    """

    keys: Sequence[bytes] = ()
    epoch: bool = True


class Snapshot(NamedTuple):
    """The answer of `ReadRows`.

    Attributes:
        epoch: of the store; None where it was not asked for.
        record: the fill record; of a store of several parts that of all of them, where no keys were asked for.
        rows: key → its row.
        parts: of a store of several parts, key → the record of its part.
    """

    epoch: Any
    record: FillRecord | None
    rows: Mapping[bytes, WindowRow | DamagedRow | None] = {}
    parts: Mapping[bytes, PartRecord] | None = None

    def record_of(self, key: bytes) -> PartRecord:
        """The record that speaks for a key."""
        return PartRecord(self.record, self.record is not None) if self.parts is None else self.parts[key]


class Swap(msgspec.Struct, gc=False):
    """Replace a row where the stored one has a sequence (0: none is stored) and, where asked, within an epoch."""

    key: bytes
    sequence: int
    row: WindowRow
    epoch: Any = None


@dataclass(frozen=True, slots=True)
class SwapRows(Request[Sequence[bool]]):
    """Replace rows. Answer: for each swap whether it was done."""

    swaps: Sequence[Swap]


class Written(Enum):
    """The answer of `WriteRecord`."""

    DONE = "done"
    CHANGED = "the record is another"
    EPOCH = "the epoch is another"


@dataclass(frozen=True, slots=True)
class WriteRecord(Request[Written]):
    """Replace the record where it is `expected`, within an epoch."""

    epoch: Any
    expected: FillRecord | None
    record: FillRecord


@dataclass(frozen=True, slots=True)
class NarrowEpoch(Request[tuple[Any, set[bytes]] | None]):
    """Leaves what has moved to another part of the store out of an epoch: within it no swap of that is done any more.

    Answer: the narrower epoch, and those of some keys that are not in it; None: the epoch is another also where they
    are.
    """

    epoch: Any
    keys: Sequence[bytes]


# the log


@dataclass(frozen=True, slots=True)
class LogEnd(Request[End]):
    """The log's end and its clock."""


@dataclass(frozen=True, slots=True)
class BatchesOf(Request[Mapping[bytes, list[Batch]]]):
    """The batches of keys at positions in (after, through]. Answer: key → its batches, ascending."""

    keys: Sequence[bytes]
    after: int
    through: int


@dataclass(frozen=True, slots=True)
class SliceEnds(Request[Sequence[int]]):
    """Where a fold may stop between two positions of the log, so that what it takes at once is not too much.

    Answer: positions in (after, through], ascending, at each of which a transaction ends; the last is `through`.
    """

    after: int
    through: int


@dataclass
class Due:
    """What a fold takes of one key.

    Attributes:
        fresh: its batches in the range of positions, ascending.
        withheld: the batches with events of it that have become known, at any position.
    """

    fresh: list[Batch] = field(default_factory=list)
    withheld: list[Batch] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DueBatches(Request[Mapping[bytes, Due]]):
    """What a fold takes of the log. Answer: key → `Due`.

    Attributes:
        after, through: batches at positions in (after, through] ...
        since, until: ... and of all up to `through` those with withheld events known in (since, until].
        keys: of these alone; None: of all.
    """

    after: int
    through: int
    since: int
    until: int
    keys: AbstractSet[bytes] | None = None


@dataclass(frozen=True, slots=True)
class KeysFarBehind(Request[AbstractSet[bytes]]):
    """Whether a fold would take so much that its keys are rather rebuilt. Answer: all its keys, or none.

    Attributes:
        after, through, since, until: as of `DueBatches`.
    """

    after: int
    through: int
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class NextNumber(Request[int]):
    """A reading of the log's clock that nobody else is given, later than all arrivals before it."""


@dataclass(frozen=True, slots=True)
class LastRestore(Request[int]):
    """Such a number, noted when the registry was restored last; 0: it never was."""


# the source, and the log with it


class Listed(NamedTuple):
    """The answer of `ListSource`: the log's end and clock, and with them what the source has."""

    end: End
    source: SourceThrough


@dataclass(frozen=True, slots=True)
class ListSource(Request[Listed]):
    """Lists the source, beside what was listed of it before."""

    since: SourceThrough


@dataclass(frozen=True, slots=True)
class NewSourceKeys(Request[set[bytes]]):
    """The keys with a source row of the listing `source` that `since` does not have."""

    source: SourceThrough
    since: SourceThrough


@dataclass(frozen=True, slots=True)
class NamedKeys(Request[set[bytes]]):
    """The keys that the listing `source`, or the log up to a position, names: by an event or a delete.

    Of the source that is an event which was known when it was listed.
    """

    source: SourceThrough
    through: int


@dataclass(frozen=True, slots=True)
class PartsOf(Request[Iterator[Sequence[bytes]]]):
    """Keys in parts that are rebuilt one after another: what log and source have of a part is read at once.

    Answer: an iterator of the keys of each part.

    Attributes:
        keys: these; None: all that the listing `source`, or the log up to `through`, names.
        source: the listing.
        through: a log position.
    """

    keys: AbstractSet[bytes] | None
    source: SourceThrough
    through: int


@dataclass(frozen=True, slots=True)
class RebuiltRows(Request[dict[bytes, WindowRow]]):
    """The rows of keys from history. Answer: key → its row.

    Attributes:
        keys: the keys.
        source: the listing whose rows count.
        end: the log's end and clock, read after the rows that these replace.
        fill, run: of the rows.
    """

    keys: Sequence[bytes]
    source: SourceThrough
    end: End
    fill: int
    run: int


@dataclass(frozen=True, slots=True)
class FillElsewhere(Request[set[bytes] | None]):
    """The rows of all keys made and put by processes of the engine, where the events are (`rebuild_elsewhere`).

    Answer: the keys that they left, and those that have deletes; None: nothing was put.

    Attributes:
        rebuild: the fill, the listing, and the end of the log that the run began with; of no keys.
        epoch: of the store, in which the run read the record.
        goes_on: whether rows that the fill has made before stay.
    """

    rebuild: RebuiltRows
    epoch: Any
    goes_on: bool


# the lease


@dataclass(frozen=True, slots=True)
class TakeLease(Request[int]):
    """Takes the version's lease. Answer: the number of the run, as of `NextNumber`."""


@dataclass(frozen=True, slots=True)
class HoldsLease(Request[bool]):
    """Whether no later run has taken the lease."""

    number: int
