"""What work on window rows asks of the online store, the log, the source and the lease; each request has one answer.

Requests of several keys are of each key for itself, in any order, except that `Read` reads epoch and record first, or
all in one.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, TypeVar

import msgspec

from headwater.online.rows.windows.parts import PartRecord
from headwater.online.rows.windows.record import FillRecord, SourceThrough
from headwater.online.rows.windows.row import WindowRow
from headwater.planning.windows.events import WindowEvent
from headwater.planning.windows.layout import WindowLayout

Result = TypeVar("Result")
Work = Generator[Any, Any, Result]
"""Yields requests and gets their answers."""


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


class View(NamedTuple):
    """What a run reads first: the log's end and clock, and with them what the source has."""

    end: End
    source: SourceThrough


# the online store


class DamagedRow(NamedTuple):
    """Stands for bytes under a key that are not a row of the layout: a rebuild alone may replace them."""

    sequence: int


class Read(NamedTuple):
    """The epoch, the record and the rows of keys. Answer: `Snapshot`.

    Attributes:
        keys: of the rows.
        epoch: whether the epoch is read; else it is None.
    """

    keys: Sequence[bytes] = ()
    epoch: bool = True


class Snapshot(NamedTuple):
    """The answer of `Read`.

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


class Narrow(NamedTuple):
    """Leaves what has moved to another part of the store out of an epoch: within it no swap of that is done any more.

    Answer: the narrower epoch, and those of some keys that are not in it; None: the epoch is another also where they
    are.
    """

    epoch: Any
    keys: Sequence[bytes]


class Swap(msgspec.Struct, gc=False):
    """Replace a row where the stored one has a sequence (0: none is stored) and, where asked, within an epoch."""

    key: bytes
    sequence: int
    row: WindowRow
    epoch: Any = None


class SwapAll(NamedTuple):
    """Answer: for each swap whether it was done."""

    swaps: Sequence[Swap]


class Written(Enum):
    """The answer of `WriteRecord`."""

    DONE = "done"
    CHANGED = "the record is another"
    EPOCH = "the epoch is another"


class WriteRecord(NamedTuple):
    """Replace the record where it is `expected`, within an epoch. Answer: `Written`."""

    epoch: Any
    expected: FillRecord | None
    record: FillRecord


# the log


class LogEnd(NamedTuple):
    """Answer: `End`."""


class Batches(NamedTuple):
    """The batches of keys at positions in (after, through]. Answer: key → its batches, ascending."""

    keys: Sequence[bytes]
    after: int
    through: int


class LogEnds(NamedTuple):
    """Where a fold may stop between two positions of the log, so that what it takes at once is not too much.

    Answer: positions in (after, through], ascending, at each of which a transaction ends; the last is `through`.
    """

    after: int
    through: int


class Slice(NamedTuple):
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


class Behind(NamedTuple):
    """Whether a fold would take so much that its keys are rather rebuilt. Answer: all its keys, or none.

    Attributes:
        after, through, since, until: as of `Slice`.
    """

    after: int
    through: int
    since: int
    until: int


@dataclass
class Due:
    """What a fold takes of one key.

    Attributes:
        fresh: its batches in the range of positions, ascending.
        withheld: the batches with events of it that have become known, at any position.
    """

    fresh: list[Batch] = field(default_factory=list)
    withheld: list[Batch] = field(default_factory=list)


class Number(NamedTuple):
    """A reading of the log's clock that nobody else is given, later than all arrivals before it."""


class Restored(NamedTuple):
    """Such a number, noted when the registry was restored last; 0: it never was."""


# the source and the lease


class Look(NamedTuple):
    """Lists the source, beside what was listed of it before. Answer: `View`."""

    since: SourceThrough = SourceThrough()


class SourceKeys(NamedTuple):
    """The keys with a source row of the listing `source` that `since` does not have. Answer: a set."""

    source: SourceThrough
    since: SourceThrough


class Named(NamedTuple):
    """The keys that the listing `source`, or the log up to a position, names: by an event or a delete."""

    source: SourceThrough
    through: int


class Parts(NamedTuple):
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


class FillElsewhere(NamedTuple):
    """The rows of all keys made and put by processes of the engine, where the events are (`rebuild_elsewhere`).

    Answer: the keys that they left, and those that have deletes; None: nothing was put.

    Attributes:
        rebuild: the fill, the listing, and the end of the log that the run began with; of no keys.
        epoch: of the store, in which the run read the record.
        goes_on: whether rows that the fill has made before stay.
    """

    rebuild: Rebuild
    epoch: Any
    goes_on: bool


class Rebuild(NamedTuple):
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


class TakeLease(NamedTuple):
    """Takes the version's lease. Answer: the number of the run, as of `Number`."""


class HoldsLease(NamedTuple):
    """Whether no later run has taken the lease."""

    number: int
