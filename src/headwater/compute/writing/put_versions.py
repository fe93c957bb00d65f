"""Rows of a write put online, for every version that takes them; and the report of what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headwater.clock import MIN_MICROS, duration_micros
from headwater.compute.context import StoreContext
from headwater.compute.recent import Sample, sample
from headwater.compute.reports import WriteReport
from headwater.compute.writing.project import PLACE, known, project
from headwater.compute.writing.put import put_rows
from headwater.compute.writing.put_windows import put_window_rows
from headwater.compute.writing.rows import Checked
from headwater.compute.writing.too_large import named
from headwater.offline.base import ARRIVAL
from headwater.offline.log.log import RowBatch
from headwater.online.base import PutOutcome
from headwater.online.rows.encoder import RowEncoder
from headwater.planning.row_reading import RowVersion

CHUNK = 65_536


@dataclass(frozen=True)
class Outcomes:
    """What became of rows online, each counted once.

    Attributes:
        applied: rows put in a version.
        superseded: others, kept out of every version.
        future: others, withheld in a version, or left to the next run of a window version that is not filled.
        too_large: rows that are too large for the store in a version, whatever came of them in others.
        problems: what is said of these, by row of the write.
        sample: some of the rows that were put.
    """

    applied: int
    superseded: int = 0
    future: int = 0
    too_large: int = 0
    problems: tuple[str, ...] = ()
    sample: Sample = ()


def put_versions(
    context: StoreContext, versions: Sequence[RowVersion], count: int, groups: Sequence[RowBatch], until: int
) -> Outcomes:
    """Put rows online for every version that takes them; what is not known yet is withheld.

    Args:
        context: the store's parts and settings.
        versions: the active versions.
        count: how many rows the write had.
        groups: its good rows.
        until: see `OnlineStore.put`.
    """
    put, withheld, taken = np.zeros(count, bool), np.zeros(count, bool), np.zeros(count, bool)
    some: Sample = ()
    large: dict[int, list[str]] = {}
    for i, version in enumerate(versions):
        mine = [(project(version, g.table), g.rows) for g in groups if i in g.versions and g.table.num_rows]
        if not mine:
            continue
        batch, rows = _in_order(mine)
        taken[rows] = True
        if version.view.windows is not None:
            done = put_window_rows(context, version.view, batch, until)
            put[rows[done.put]] = True
            withheld[rows[done.later]] = True
            some += done.sample
            continue
        future = known(batch) > horizon(context, _arrived(groups))
        if future.any():
            withheld[rows[future]] = True
            batch, rows = batch.filter(pa.array(~future)), rows[~future]
        encoder = RowEncoder(context.project, version.view)
        last = int(batch.column(PLACE).to_numpy().max(initial=0))
        for start in range(0, batch.num_rows, CHUNK):
            part = batch.slice(start, CHUNK)
            pairs = encoder.encode(part)
            outcomes = put_rows(context, version.view, pairs, until=until, position=last)
            applied = [outcome is PutOutcome.APPLIED for outcome in outcomes]
            places = rows[start : start + CHUNK]
            put[places[np.array(applied, bool)]] = True
            for at, text in named(context.online, encoder, pairs, outcomes):
                large.setdefault(int(places[at]), []).append(text)
            if not start:
                some += sample(part, encoder.names, pairs, applied)
    withheld &= ~put
    others = taken & ~put & ~withheld
    others[list(large)] = False
    problems = tuple(f"row {row}: {'; '.join(large[row])}" for row in sorted(large))
    return Outcomes(int(put.sum()), int(others.sum()), int(withheld.sum()), len(large), problems, some)


def horizon(context: StoreContext, arrival: int) -> int:
    """The instant after which rows that are known later do not go online yet, microseconds.

    Args:
        context: the store's settings have the tolerance.
        arrival: of the rows, by the log's clock.
    """
    return arrival + duration_micros(context.settings.tolerance)


def _arrived(groups: Sequence[RowBatch]) -> int:
    return max((g.table.column(ARRIVAL)[0].as_py() for g in groups if g.table.num_rows), default=MIN_MICROS)


def _in_order(batches: list[tuple[pa.RecordBatch, NDArray[np.int64]]]) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
    """The rows of all groups as the user gave them: of rows that the guard holds for equal the last one stands."""
    if len(batches) == 1:
        return batches[0]
    rows = np.concatenate([some for _, some in batches])
    order = np.argsort(rows, kind="stable")
    table = pa.Table.from_batches([batch for batch, _ in batches]).take(pa.array(order)).combine_chunks()
    return table.to_batches()[0], rows[order]


def written(checked: Checked, outcomes: Outcomes, purged: int, position: int = 0) -> WriteReport:
    """The report of a write whose rows were checked; `purged` are rows that a purge hides."""
    return WriteReport(
        applied=outcomes.applied,
        superseded=outcomes.superseded + purged,
        rejected=checked.rejected,
        future=outcomes.future,
        skipped=checked.skipped,
        problems=(*checked.problems, *outcomes.problems),
        position=position,
        too_large=outcomes.too_large,
        unread=dict(checked.unread),
    )
