"""Writes and deletes that are done once, however often they are sent: the report is kept beside the log's rows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import msgspec

from headwater.clock import from_micros
from headwater.compute.context import StoreContext
from headwater.compute.recent import RecentWrite
from headwater.compute.reports import DeleteReport, WriteReport
from headwater.compute.writing.acknowledged import acknowledge
from headwater.compute.writing.delete import delete
from headwater.compute.writing.write import problems_of, write, write_again
from headwater.errors import StoreError
from headwater.offline.log.requests import Recorded, Repeated, Request
from headwater.online.session import Session

Report = TypeVar("Report", WriteReport, DeleteReport)


def write_once(
    context: StoreContext,
    request: Request,
    view: str,
    rows: Any,
    *,
    to: str = "both",
    session: Session | None = None,
    durability: int = 0,
    errors: str = "raise",
    created: str = "arrival",
) -> tuple[WriteReport, bool]:
    """Write rows, or say what was done for the same request before.

    Args:
        context: the store's parts and settings.
        request: which one.
        view, rows, to, session, durability, errors, created: as `write` takes them; not `to="online"`, which the log
            does not know of.

    Returns:
        The report, and whether the request had been answered before.

    Raises:
        IdempotencyKeyReused: its key stands for another request.
        RequestInProgress: somebody is doing it.
        HeadwaterError: as `write`.
    """
    do = partial(
        write,
        *(context, view, rows),
        to=to,
        errors=errors,
        durability=durability,
        session=session,
        created=created,
        request=request,
    )
    again = partial(write_again, context, view, rows, to=to, durability=durability, session=session, created=created)
    # what was wrong with rows may hold their values: it is not kept, and is seen again in the request itself
    report, before = _once(context, request, WriteReport, do, again, lambda report: replace(report, problems=()))
    if before:
        write_noted = RecentWrite(from_micros(context.now()), "write", view, report.applied, (), report.position)
        durable = to == "offline" or acknowledge(context, write_noted, session, durability)
        problems = problems_of(context, view, rows, created) if report.rejected or report.too_large else ()
        report = replace(report, durable=durable, problems=problems)
    return report, before


def delete_once(
    context: StoreContext,
    request: Request,
    view: str,
    entities: Any,
    *,
    purge: bool = False,
    session: Session | None = None,
) -> tuple[DeleteReport, bool]:
    """Delete keys, or say what was done for the same request before; see `write_once`."""
    do = partial(delete, context, view, entities, purge=purge, session=session)
    report, before = _once(
        *(context, request, DeleteReport),
        lambda: do(request=request),
        lambda recorded: do(recorded=recorded),
        lambda report: report,
    )
    if before:
        noted = RecentWrite(from_micros(context.now()), "delete", view, report.deleted, (), report.position)
        acknowledge(context, noted, session)
    return report, before


def _once(
    context: StoreContext,
    request: Request,
    kind: type[Report],
    do: Callable[[], Report],
    again: Callable[[Recorded], Report],
    kept: Callable[[Report], Report],
) -> tuple[Report, bool]:
    """Do a request, or what is left to do of it, or nothing.

    Args:
        context: the store's parts and settings.
        request: which one.
        kind: of its report.
        do: does it.
        again: does what follows the log's transaction, of what is recorded.
        kept: what is kept of a report.
    """
    try:
        try:
            report = do()
            if not request.until:
                context.log.check_request(request)
        except Repeated as repeated:
            if repeated.recorded.answer is not None:
                return msgspec.json.decode(repeated.recorded.answer, type=kind), True
            context.log.take_over(request, repeated.recorded)
            report = again(repeated.recorded)
    except StoreError:
        if request.until:
            # what is in the log is there: the next who asks goes on with it
            with suppress(StoreError):
                context.log.answer(request, None)
        raise
    if request.until:
        context.log.answer(request, msgspec.json.encode(kept(report)).decode())
    return report, False
