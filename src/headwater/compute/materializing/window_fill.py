"""The fill of window versions that have nothing to be filled from: done as soon as they are applied."""

from __future__ import annotations

from contextlib import suppress

from headwater.compute.context import StoreContext
from headwater.compute.materializing.run import Bounds
from headwater.compute.materializing.window_run import WindowRun
from headwater.compute.windows.driving import fill_records
from headwater.definitions.sources import PushSource
from headwater.errors import StoreError
from headwater.online.void_windows import void_entries, void_rows
from headwater.planning.resolve import whole_view
from headwater.planning.resolved import ResolvedView


def fill_empty(context: StoreContext) -> int:
    """Complete the fill of window versions without a batch source and with an empty log; how many there were.

    Where the online store cannot be reached, the next run does it.
    """
    versions = [
        whole_view(record, version)
        for record in context.registry.refresh().views.values()
        for version in record.active
        if version.view.aggregations and isinstance(context.sources.source_of(version), PushSource)
    ]
    if not versions:
        return 0
    done = 0
    with suppress(StoreError):
        context.claims.claim_online()
        records = fill_records(context, [(view.name, view.version) for view in versions])
        for view in versions:
            if records[view.name, view.version] is None and _is_empty(context, view):
                WindowRun(context, view, Bounds()).run()
                done += 1
    return done


def _is_empty(context: StoreContext, view: ResolvedView) -> bool:
    """Whether the log has neither a row nor a delete of the view."""
    if context.log.rows_by_schema(view.name):
        return False
    head = context.log.head_position()
    deletes = context.log.deletes_after(view.name, view.log_keys, 0, head)
    return deletes is None and not context.log.purges_after(view.name, 0, head)


def void_windows(context: StoreContext, view: ResolvedView) -> None:
    """Remove the rows of a window version, and what says how far they are complete: the next run fills it again.

    Numbers of fills and runs were taken from a clock that was ahead: what is numbered from now on would count as
    earlier.
    """
    context.online.put_meta(void_entries(context.project, view.name, view.version))
    void_rows(context.online, context.project, view)
