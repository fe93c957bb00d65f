"""Rows given to `write`, held against every active version: which version takes which row, and why none does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headwater.compute.writing.given_rows import GivenRows, Known, fit_column, given_groups, rejected
from headwater.compute.writing.log_columns import known_at_event, log_columns
from headwater.compute.writing.taken_rows import TakenRows, in_lines, unknown_column
from headwater.definitions.names import CREATED, LOG_COLUMNS, date_key_problem, repeated, same_but_case
from headwater.errors import DataError, RowsRejected
from headwater.offline.log.log import RowBatch
from headwater.planning.local_time import aware, local_times
from headwater.planning.row_reading import RowVersion
from headwater.types import Date, Timestamp, leaf_dtype

_SHOWN = 6
"""Unknown columns that the problem of a row names."""


@dataclass
class Checked:
    """The rows of a write, checked.

    Attributes:
        count: how many rows there were.
        groups: the good rows, by their columns and the versions that take them.
        problems: why each bad row is refused, in order of rows.
        rejected: how many rows are bad.
        skipped: how many times a version left out a good row.
        unread: column → how many good rows had it, of columns that no version reads: they are left out.
    """

    count: int
    groups: list[RowBatch] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    rejected: int = 0
    skipped: int = 0
    unread: dict[str, int] = field(default_factory=dict)

    def refused(self, view: str) -> RowsRejected:
        """The error of a write that its bad rows end."""
        return rejected(view, self.problems, self.rejected, self.count)


def check_rows(
    view: str,
    data: Any,
    versions: Sequence[RowVersion],
    more: Callable[[], Iterable[str]],
    *,
    at_event: bool = False,
) -> Checked:
    """Hold rows against the active versions.

    Args:
        view: the view's name, for errors.
        data: a table or a list of dicts with the source's own columns.
        versions: the active versions, the one that problems are named for first.
        more: names the other columns of the sources; asked only where a column is in no definition.
        at_event: whether rows without a created time count as known at their event time and the source's delay.

    Raises:
        DataError: data that is not a table; columns that are read, and whose names differ only in case.
    """
    raws, count = given_groups(view, data)
    checked = Checked(count)
    reasons: dict[int, list[str]] = {}
    for version in versions:
        for key in version.view.keys:
            if key.dtype == Date and key.source_column in version.times:
                raise DataError(f"rows of {view!r}: {date_key_problem(key.name, key.source_column)}")
    known = frozenset().union(*(version.known for version in versions))
    read = frozenset().union(*(version.reads for version in versions))
    asked, why = False, dict[str, str]()
    for raw in raws:
        unknown = [name for name in raw.columns if name not in known]
        used = [name for name in raw.columns if name in read]
        for one, other in repeated(used):
            raise DataError(f"rows of {view!r}: {same_but_case(one, other)}")
        if any(name in LOG_COLUMNS for name in used):
            named = next(name for name in used if name in LOG_COLUMNS)
            raise DataError(f"rows of {view!r}: {named!r} is reserved by the offline log: rename that column")
        if unknown and not asked:
            # once, however many sets of columns there are
            known, asked = known | set(more()), True
            unknown = [name for name in unknown if name not in known]
        if unknown:
            some = unknown[:_SHOWN]
            why |= {name: unknown_column(name, versions, known) for name in some if name not in why}
            text = "; ".join(why[name] for name in some)
            if len(unknown) > _SHOWN:
                text += f"; and {len(unknown) - _SHOWN:,} other unknown columns"
            reasons.update({int(row): [text] for row in raw.rows})
        else:
            kept = GivenRows({name: raw.columns[name] for name in raw.columns if name in read}, raw.rows, raw.given)
            good = _check_group(kept, versions, checked, reasons, at_event)
            for name in raw.columns if good else ():
                if name not in read:
                    checked.unread[name] = checked.unread.get(name, 0) + good
    checked.rejected = len(reasons)
    checked.problems = in_lines(reasons, count)
    return checked


def _check_group(
    raw: GivenRows, versions: Sequence[RowVersion], checked: Checked, reasons: dict[int, list[str]], at_event: bool
) -> int:
    """Find which versions take which rows of a group; keep the good rows, note why the bad ones are refused.

    Returns:
        How many are good.
    """
    size = len(raw.rows)
    zones = [_zone_of(version) for version in versions]
    read = {zone: _Zoned.of(raw, zone, versions) for zone in dict.fromkeys(zones)}
    whys = [
        TakenRows.of(read[zone].raw, version, read[zone].fitted) for zone, version in zip(zones, versions, strict=True)
    ]
    taken = np.array([why.good for why in whys]).reshape(len(versions), size)
    if len(read) > 1:
        for at, text in _of_two_zones(read, versions, zones, taken):
            reasons[int(raw.rows[at])] = [text]
            taken[:, at] = False
    bad: NDArray[np.bool_] = np.logical_not(taken.any(axis=0))
    if bad.any():
        best = min(whys, key=lambda why: len(why.missing))
        for at in map(int, np.flatnonzero(bad)):
            if int(raw.rows[at]) not in reasons:
                reasons[int(raw.rows[at])] = best.problems_of(read[_zone_of(best.version)].raw, at)
    for chosen, places in _alike(taken, ~bad):
        takers = tuple(map(int, np.flatnonzero(chosen)))
        zoned = read[zones[takers[0]]]
        table = log_columns(zoned.raw, [versions[i] for i in takers], versions, zoned.fitted)
        if at_event:
            table = known_at_event(table, [versions[i] for i in takers])
        some = table if len(places) == size else table.take(pa.array(places))
        checked.groups.append(RowBatch(some, raw.rows[places], takers))
        checked.skipped += (len(versions) - len(takers)) * len(places)
    return size - int(bad.sum())


def _alike(taken: NDArray[np.bool_], among: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.int64]]]:
    """The rows (of some) that the same versions take: which versions, and where the rows are, ascending."""
    places = np.flatnonzero(among)
    if not len(places):
        return
    mine = taken[:, places]
    if (mine == mine[:, :1]).all():
        yield mine[:, 0], places
        return
    kinds, which = np.unique(np.packbits(mine, axis=0), axis=1, return_inverse=True)
    which = which.reshape(-1)
    for kind in range(kinds.shape[1]):
        some = places[which == kind]
        yield taken[:, some[0]], some


def _zone_of(version: RowVersion) -> str:
    """The time zone in which a version reads naive times."""
    return version.view.view.source.timezone or "UTC"


@dataclass
class _Zoned:
    """Rows whose naive times are of one time zone, and their columns as they fit."""

    raw: GivenRows
    times: frozenset[str]
    fitted: Known = field(default_factory=dict)

    @classmethod
    def of(cls, raw: GivenRows, name: str, versions: Sequence[RowVersion]) -> _Zoned:
        times = {CREATED}.union(*(version.times for version in versions))
        stamps = {
            n
            for v in versions
            for n, dtypes in v.needs.items()
            if Timestamp in [leaf_dtype(d) for d in dtypes if d is not None]
        }
        zone, read = local_times(name, later=True), frozenset(times | stamps)
        if zone is None:
            return cls(raw, read)
        columns = {
            name: aware(column, zone, dates=name in times) if name in read else column
            for name, column in raw.columns.items()
        }
        return cls(GivenRows(columns, raw.rows, raw.given, raw.columns), read)


def _of_two_zones(
    read: Mapping[str, _Zoned], versions: Sequence[RowVersion], zones: Sequence[str], taken: NDArray[np.bool_]
) -> Iterator[tuple[int, str]]:
    """The rows with a naive time that two of their takers read as two instants, and why they are refused."""
    refused: set[int] = set()
    for i, j in combinations(range(len(versions)), 2):
        both = taken[i] & taken[j]
        if zones[i] == zones[j] or not both.any():
            continue
        one, other = read[zones[i]], read[zones[j]]
        for name in sorted(one.times & one.raw.columns.keys()):
            times = [fit_column(zoned.raw, name, None, zoned.fitted).values for zoned in (one, other)]
            differ = pc.fill_null(pc.not_equal(*times), False).to_numpy(zero_copy_only=False)
            for at in np.flatnonzero(both & differ):
                if int(at) not in refused:
                    refused.add(int(at))
                    told = " and ".join(f"{versions[n].view.version} in {zones[n]}" for n in (i, j))
                    yield (
                        int(at),
                        f"column {name!r}: a time without an offset, which the view's versions read in two time zones "
                        f"({told}); give times with an offset, or retire one of the versions",
                    )
