"""What a run does to the rows of keys: folds them, or rebuilds them from history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Any, NamedTuple

from headwater.compute.windows.merging import after_fold, holds_nothing
from headwater.compute.windows.putting import AT_ONCE
from headwater.compute.windows.requests import (
    Batch,
    BatchesOf,
    DamagedRow,
    Due,
    End,
    LogEnd,
    NarrowEpoch,
    PartsOf,
    ReadRows,
    RebuiltRows,
    Swap,
    SwapRows,
    Version,
)
from headwater.compute.windows.work import Work
from headwater.online.rows.values import Damaged
from headwater.online.rows.windows.codec import next_sequences
from headwater.online.rows.windows.record import FillRecord, SourceThrough
from headwater.online.rows.windows.row import WindowRow, blank_row

Rows = Mapping[bytes, WindowRow | DamagedRow | None]


@dataclass(frozen=True)
class Run:
    """One run over a version, or the part of one.

    Attributes:
        number: its own.
        fill: of the rows that it writes.
        epoch: of the store, in which it read the record.
        record: as it read it.
        source: what it listed of the source.
        end: of the log, up to where it folds.
        unnamed: the keys of those asked for that neither source nor log names.
        goes_on: whether it goes on with a fill: rows that runs have rebuilt for that are left as they are.
    """

    number: int
    fill: int
    epoch: Any
    record: FillRecord
    source: SourceThrough
    end: End
    unnamed: AbstractSet[bytes] = frozenset()
    goes_on: bool = False


class Kept(NamedTuple):
    """How far rows were brought.

    Attributes:
        epoch: in which they are: the run's, without what has moved to other parts of the store meanwhile.
        end: up to where the rows have all batches: the run's, or a position before it.
    """

    epoch: Any
    end: End


def keep(
    version: Version, run: Run, due: Mapping[bytes, Due], whole: AbstractSet[bytes] | None = frozenset()
) -> Work[Kept | None]:
    """Bring the rows of keys up to the run's end, part by part.

    Args:
        version: the version.
        run: the run.
        due: the keys, with what a fold takes of each.
        whole: the keys to rebuild whatever they have; None: all that the run's source and log name.

    Returns:
        None: another run or fill has gone further, or the epoch is another.
    """
    low = run.end.position
    parts: Iterator[Sequence[bytes]] = iter(())
    if whole is None or len(whole) > AT_ONCE:
        parts = yield from PartsOf(whole, run.source, run.end.position)
        rest = sorted(due if whole is None else due.keys() - whole)
    else:
        rest = sorted({*due, *whole})
    for keys in chain(parts, (rest[start : start + AT_ONCE] for start in range(0, len(rest), AT_ONCE))):
        redo = frozenset(keys) if whole is None else whole
        kept: Kept | None = yield from _keep(version, run, keys, due, redo)
        if kept is None:
            return None
        run, low = replace(run, epoch=kept.epoch), min(low, kept.end.position)
    return Kept(run.epoch, run.end._replace(position=low))


def catch_up(version: Version, run: Run, keys: AbstractSet[bytes]) -> Work[set[bytes] | None]:
    """Rebuild keys that can be folded as well: those whose rows writers change meanwhile stay as they are.

    Returns:
        Those that have all that there is up to the run's end; None: another run or fill has gone further.
    """
    done = set[bytes]()
    parts = (yield from PartsOf(keys, run.source, run.end.position)) if keys else iter(())
    for mine in parts:
        snapshot = yield from ReadRows(mine)
        if any(_is_later(run, row) for row in snapshot.rows.values()):
            return None
        made: Mapping[bytes, WindowRow] = yield from _rebuilt(version, run, mine)
        swaps = swaps_of(mine, snapshot.rows, made, run.epoch)
        swapped = yield from SwapRows(swaps)
        done |= {swap.key for swap, each in zip(swaps, swapped, strict=True) if each}
    return done


def _keep(
    version: Version, run: Run, keys: Sequence[bytes], due: Mapping[bytes, Due], whole: AbstractSet[bytes]
) -> Work[Kept | None]:
    waiting, epoch, low = keys, run.epoch, run.end.position
    for tries in count():
        if not waiting:
            break
        snapshot = yield from ReadRows(waiting)
        rows = snapshot.rows
        if any(_is_later(run, row) for row in rows.values()):
            return None
        waiting = [key for key in waiting if not _is_done(run, rows[key])]
        if tries >= version.fold_tries:
            asked = [key for key in waiting if key not in whole]
            given = {key: _without_fold(run, rows[key], due.get(key)) for key in asked}
            left = {key: each for key, each in given.items() if each is not None}
            low = min(low, _complete_through(run, left, due))
            waiting = [key for key in waiting if key not in left]
        redo = {key for key in waiting if key in whole or _needs_history(run, rows[key])}
        made: dict[bytes, WindowRow] = yield from _folded(version, run, rows, due, set(waiting) - redo)
        redo |= {key for key, new in made.items() if new.rebuild} | (set(waiting) - made.keys())
        made |= yield from _rebuilt(version, run, sorted(redo))
        begun = [k for k in waiting if rows[k] is not None or k not in run.unnamed or not holds_nothing(made[k])]
        swaps = swaps_of(begun, rows, made, epoch)
        done: Sequence[bool] = (yield from SwapRows(swaps)) if swaps else []
        waiting = [swap.key for swap, each in zip(swaps, done, strict=True) if not each]
        if waiting:
            narrow = yield from NarrowEpoch(epoch, waiting)
            if narrow is None:
                return None
            # what has moved is left to the next run: this one's record does not speak for it
            epoch, moved = narrow
            waiting = [key for key in waiting if key not in moved]
    return Kept(epoch, run.end._replace(position=low))


def swaps_of(keys: Sequence[bytes], rows: Rows, made: Mapping[bytes, WindowRow], epoch: Any) -> list[Swap]:
    """Replace the rows of keys, as they were read, by others."""
    before = [0 if (row := rows[key]) is None else row.sequence for key in keys]
    swaps = []
    for key, sequence, after in zip(keys, before, next_sequences(before), strict=True):
        made[key].sequence = after
        swaps.append(Swap(key, sequence, made[key], epoch))
    return swaps


def _is_later(run: Run, row: WindowRow | DamagedRow | None) -> bool:
    """Whether a later fill has begun, or a later run has rebuilt the row."""
    if row is None or isinstance(row, DamagedRow):
        return False
    return row.fill > run.fill or (row.fill == run.fill and row.run > run.number)


def _is_done(run: Run, row: WindowRow | DamagedRow | None) -> bool:
    """Whether the fill that is gone on with has rebuilt the row: one that a writer began has no run."""
    return run.goes_on and isinstance(row, WindowRow) and row.fill == run.fill and row.run > 0


def _without_fold(run: Run, row: WindowRow | DamagedRow | None, due: Due | None) -> WindowRow | None:
    """A row that can be left to its writers, of which nothing is due but statements that they put; else None."""
    if due is None or not isinstance(row, WindowRow) or _needs_history(run, row):
        return None
    # deletes of a key come as one, at the last one's position: the others would be passed over
    return None if due.withheld or any(batch.delete is not None for batch in due.fresh) else row


def _complete_through(run: Run, left: Mapping[bytes, WindowRow], due: Mapping[bytes, Due]) -> int:
    """The position up to which rows that are left as they are have all batches: the end of a transaction."""
    lacking = [b.arrival for key, row in left.items() for b in due[key].fresh if not row.covers(b.position)]
    if not lacking:
        return run.end.position
    # other keys' rows of the same transaction may come first
    later = [b for each in due.values() for b in each.fresh if b.delete is None and b.arrival >= min(lacking)]
    return min(position for b in later for position in (b.position, *(event.position for event in b.events))) - 1


def _needs_history(run: Run, row: WindowRow | DamagedRow | None) -> bool:
    if isinstance(row, DamagedRow):
        return True
    return row is not None and (row.rebuild or row.fill < run.record.fill)


def _folded(
    version: Version, run: Run, rows: Rows, due: Mapping[bytes, Due], keys: AbstractSet[bytes]
) -> Work[dict[bytes, WindowRow]]:
    """Rows with what is due of them, and those that were missing; without those that prove damaged."""
    low, known = run.record.low, run.record.known_through
    bases = {key: row for key in keys if isinstance(row := rows[key], WindowRow)}
    for key in keys - bases.keys():
        bases[key] = blank_row(version.layout, fill=run.fill, applied_through=low, known_through=known)
    taken = {key: due.get(key, Due()) for key in keys}
    listing = [k for k in sorted(keys) if bases[k].listed and any(b.delete is not None for b in taken[k].fresh)]
    later: Mapping[bytes, list[Batch]] = {}
    if listing:
        later = yield from BatchesOf(listing, run.end.position, max(max(bases[key].listed) for key in listing))
    made = {}
    for key in sorted(keys):
        # one that proves damaged is left to be rebuilt
        with suppress(Damaged):
            made[key] = after_fold(version, bases[key], taken[key], known, run.end, later.get(key, ()))
    return made


def _rebuilt(version: Version, run: Run, keys: Sequence[bytes]) -> Work[dict[bytes, WindowRow]]:
    if not keys:
        return {}
    # the end is read after the rows, so that no put that a row has is beyond it
    end = yield from LogEnd()
    made = yield from RebuiltRows(keys, run.source, end, run.fill, run.number)
    return made
