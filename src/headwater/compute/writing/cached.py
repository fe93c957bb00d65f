"""Cache-only writes: rows put online alone, with no history that could fill them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headwater.compute.context import StoreContext
from headwater.compute.recent import Sample
from headwater.compute.reports import WriteReport
from headwater.compute.writing.project import known, project
from headwater.compute.writing.put_versions import horizon, put_versions, written
from headwater.compute.writing.rows import Checked
from headwater.compute.writing.too_large import named, too_large
from headwater.offline.log.log import RowBatch
from headwater.offline.log.write_buffer import stamped
from headwater.online.base import PutOutcome
from headwater.online.rows.encoder import RowEncoder
from headwater.planning.row_reading import RowVersion


def write_cached(
    context: StoreContext, view: str, versions: Sequence[RowVersion], checked: Checked, errors: str, until: int
) -> tuple[WriteReport, Sample]:
    """Put rows online alone (`to="online"`): origin log, position 0; one from the future is rejected.

    Raises:
        RowsRejected: a row from the future, with `errors="raise"`.
    """
    arrival = context.log.arrival(view)
    groups: list[RowBatch] = []
    late: list[int] = []
    problems: list[str] = []
    purged = 0
    for group in checked.groups:
        takers = [versions[i] for i in group.versions]
        table = stamped(group.table, np.zeros(group.table.num_rows, np.int64), arrival)
        future, gone = _unfit(context, view, takers, table, arrival)
        late += [int(row) for row in group.rows[future]]
        purged += int((gone & ~future).sum())
        keep = ~(future | gone)
        large = _too_large(context, takers, table.filter(pa.array(keep)))
        problems += [f"row {group.rows[keep][at]}: {text}" for at, text in large.items()]
        keep[np.flatnonzero(keep)[list(large)]] = False
        groups.append(replace(group, table=table).only(keep))
    text = "known in the future: a cache-only row is not kept for later; write it with to='both'"
    problems += [f"row {row}: {text}" for row in sorted(late)]
    if problems:
        checked.problems += problems
        checked.rejected += len(problems)
        if errors == "raise":
            raise checked.refused(view)
    outcomes = put_versions(context, versions, checked.count, groups, until)
    return written(checked, outcomes, purged), outcomes.sample


def _too_large(context: StoreContext, takers: Sequence[RowVersion], table: pa.Table) -> dict[int, str]:
    """The rows that the online store cannot take in some version, and why: nothing else would keep them."""
    most = context.online.capabilities.max_row_bytes
    # no packed row is twice as large as all columns together
    if context.online.capabilities.max_key_bytes is None and (most is None or 2 * table.nbytes + 65_536 < most):
        return {}
    found: dict[int, str] = {}
    for version in takers:
        encoder = RowEncoder(context.project, version.view)
        pairs = encoder.encode(project(version, table))
        large = frozenset(too_large(context.online, version.view.layout, version.view.keys, pairs))
        outcomes = [PutOutcome.TOO_LARGE if i in large else PutOutcome.APPLIED for i in range(len(pairs))]
        found |= dict(named(context.online, encoder, pairs, outcomes))
    return found


def _unfit(
    context: StoreContext, view: str, takers: Sequence[RowVersion], table: pa.Table, arrival: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows some version would see in the future, and which are at or below a purge in every version."""
    latest = horizon(context, arrival)
    future, gone = np.zeros(table.num_rows, bool), np.ones(table.num_rows, bool)
    for version in takers:
        batch = project(version, table)
        since = known(batch)
        future |= since > latest
        keys = pa.Table.from_batches([batch]).select([key.name for key in version.view.keys])
        gone &= since <= context.log.purged(view, keys, version.view.key_names)
    return future, gone
