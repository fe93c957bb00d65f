"""A resolved view with its source and its part of the offline log, as the engine takes it."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from headwater.compute.context import StoreContext
from headwater.compute.upstream import bound_source, takes
from headwater.definitions.sources import PushSource
from headwater.offline.base import LogSlice, ViewInput
from headwater.offline.log.parts import rows_after
from headwater.planning.resolved import ResolvedView
from headwater.planning.row_reading import RowVersion


def view_input(context: StoreContext, view: ResolvedView, until: int | None = None) -> ViewInput:
    """A view with the data of its history, up to a log position (None: all there is)."""
    log = context.log.slice(view.name, view.log_keys, until)
    return with_log(context, view, log, history=True)


def with_log(
    context: StoreContext, view: ResolvedView, log: LogSlice, keys: pa.Table | None = None, *, history: bool = False
) -> ViewInput:
    """A view with its source and those parts of the log that it takes.

    Args:
        context: the store's parts and settings.
        view: the view.
        log: its part of the log.
        keys: these alone are asked for; None: all.
        history: read the newest versions of the views that it reads, caught up or not.
    """
    if keys is not None and log.purges and log.digests is not None:
        # where none of them is purged, no key of the view has to be digested
        names = [key.name for key in view.keys]
        mine = {digest for each in log.digests(keys.select(names), view.key_names) for digest in each}
        log = replace(log, purges={digest: some for digest, some in log.purges.items() if digest in mine})
    source = bound_source(context, view.definition, log.position, history=history)
    log = replace(log, parts=tuple(part for part in log.parts if takes(view, part)))
    return ViewInput(view, None if isinstance(source, PushSource) else source, log)


def skipped_rows(view: ResolvedView, log: LogSlice, position: int) -> int:
    """How many rows of the log after a position a version does not take: they lack its columns, or have other types."""
    return sum(rows_after(part, position) for part in log.parts if not takes(view, part))


def skipped_columns(view: ResolvedView, log: LogSlice, position: int) -> tuple[str, ...]:
    """The columns that rows of the log after a position lack, of those that a version needs."""
    asks = RowVersion(view)
    lacking = [
        asks.lacking(part.schema) for part in log.parts if part.schema is not None and rows_after(part, position)
    ]
    return tuple(dict.fromkeys(name for names in lacking for name in names))
