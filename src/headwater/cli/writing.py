"""`headwater materialize`, `write` and `delete`: what changes the data."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater.cli import complete, later, parse, reports
from headwater.cli.plain import plain
from headwater.cli.run import Run, command
from headwater.cli.sheet import Line
from headwater.errors import EntityKeyError, HeadwaterError, UsageError

if TYPE_CHECKING:
    from headwater.types import DType


class To(enum.StrEnum):
    """Where `write` puts rows."""

    BOTH = "both"
    OFFLINE = "offline"
    ONLINE = "online"


class Created(enum.StrEnum):
    """When rows without a created time count as known."""

    ARRIVAL = "arrival"
    EVENT = "event"


class Errors(enum.StrEnum):
    """What `write` does about bad rows."""

    RAISE = "raise"
    REPORT = "report"


View = Annotated[str, typer.Argument(metavar="VIEW", help="A feature view.", autocompletion=complete.views)]
KeyOption = Annotated[
    list[str],
    typer.Option("--key", metavar="NAME=VALUE", help="A join key's value; repeat it for each key and entity."),
]


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    command(app)(materialize)
    command(app)(write)
    command(app)(delete)
    command(app)(erase)
    command(app, name="repair-clock")(repair_clock)
    command(app, name="claim-store")(claim_store)


def materialize(
    run: Run,
    views: Annotated[
        list[str] | None,
        typer.Argument(metavar="VIEW", help="Views; default: all.", autocompletion=complete.views),
    ] = None,
    start: Annotated[
        Any,
        typer.Option(
            parser=parse.instant, metavar="TIME", help="Only rows known after this time; does not move the watermark."
        ),
    ] = None,
    end: Annotated[
        Any, typer.Option(parser=parse.instant, metavar="TIME", help="Only rows known up to this time; default: now.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Make each key equal to history as of now, even if that removes rows or restores older ones.",
        ),
    ] = False,
) -> None:
    """Bring the online store up to date with history.

    Every version that is not retired is filled. If a run is killed, run it again. With --start the watermark does not
    move. If a version fails, the others are still filled; the exit code is 1, and 'headwater status' shows the error.
    """
    try:
        with run.store() as store:
            report = store.materialize(views or None, start=start, end=end, force=force)
    except HeadwaterError as bad:
        if bad.report is not None:
            run.answer(bad.report, *reports.materialized(bad.report))
            run.warn(bad.report.warnings)
        raise
    run.answer(report, *reports.materialized(report))
    run.warn(report.warnings)


def write(
    run: Run,
    view: View,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Rows: .parquet, .csv, .json or .jsonl.")],
    to: Annotated[
        To, typer.Option(help="History and online, history only, or online only (a cache without history).")
    ] = To.BOTH,
    errors: Annotated[
        Errors, typer.Option(help="raise: a bad row writes nothing; report: the good rows are written.")
    ] = Errors.RAISE,
    created: Annotated[
        Created,
        typer.Option(help="event: rows without a created time count as known at their event time (to load history)."),
    ] = Created.ARRIVAL,
    csv: parse.CSVOption = None,
) -> None:
    """Write rows to history and to the online store.

    The rows have the columns of the source. If they carry a created time, writing them again is safe; of a window
    view, if its source has an event id: otherwise each row counts again.
    """
    with run.store() as store:
        definition = store.registry.snapshot().view(view).version().view
        rows = later.files.read_table(
            file,
            later.files.source_columns(definition),
            times=later.files.source_times(definition),
            form=later.files.csv_options(csv or []),
            strict=False,
        )
        report = store.write(view, rows, to=to.value, errors=errors.value, created=created.value)
    run.answer(report, *reports.written(view, report))


def delete(
    run: Run,
    view: View,
    key: KeyOption,
    purge: Annotated[
        bool, typer.Option("--purge", help="Also erase the values, by a materialize ten minutes later or after that.")
    ] = False,
) -> None:
    """Delete entities from the online store and from history.

    Everything known about them up to now is hidden from online reads, and from history at instants from now on, and
    defaults apply; training sets at earlier instants still show it. Rows that become known later are visible again.
    """
    with run.store() as store:
        versions = later.keys.one_a_form(store.registry.snapshot().view(view))
        if not versions[0].view.join_keys:
            raise UsageError(f"feature view {view!r} is global: it has no join keys to delete by")
        entities = _entities(key, [version.view.join_keys for version in versions])
        report = store.delete(view, entities, purge=purge)
    done = "purged" if purge else "deleted"
    run.answer(
        {"view": view, **plain(report)},
        Line(f"{view}: {done} {report.deleted} {'entity' if report.deleted == 1 else 'entities'}", "green"),
        *([Line(reports.hidden_until(report.pending_until), "green")] if purge else []),
        *(Line(left, "yellow") for left in report.left),
    )


def _entities(key: list[str], forms: Sequence[Mapping[str, DType]]) -> dict[str, Any]:
    """The entities that `--key` names, by the first of these join keys that they are values of."""
    refused: EntityKeyError | None = None
    for join_keys in forms:
        try:
            return parse.entities(key, join_keys)
        except EntityKeyError as bad:
            refused = refused or bad
    assert refused is not None
    raise refused


def erase(
    run: Run,
    entity: Annotated[str, typer.Argument(metavar="ENTITY", help="An entity.", autocompletion=complete.entities)],
    key: KeyOption,
) -> None:
    """Erase an entity's keys in every view of it.

    They are hidden at once from online reads, and from history at instants from now on. A materialize or worker that
    runs at least ten minutes later erases the stored values; until then training sets at earlier instants show them.
    'headwater status' shows what is pending.
    """
    with run.store() as store:
        join_keys = store.get_entity(entity).join_keys
        records = store.registry.snapshot().views.values()
        versions = [version for record in records for version in later.keys.one_a_form(record)]
        older = [v.view.join_keys for v in versions if [e.name for e in v.view.entities] == [entity]]
        report = store.erase(entity, _entities(key, [join_keys, *older]))
    run.answer({"entity": entity, **plain(report)}, *reports.erased(entity, report))


def repair_clock(run: Run) -> None:
    """Repair timestamps that a wrong clock put in the future.

    Timestamps in the offline log and the online store that are in the future are set to now, in their order. Nothing is
    lost, and it is safe to run again. First make sure that this host's clock (with PostgreSQL: its server's) is right.
    """
    with run.store() as store:
        report = store.repair_clock()
    run.answer(report, *reports.repaired(report))


def claim_store(
    run: Run,
    log_id: Annotated[str, typer.Option("--from", metavar="ID", help="The offline log that currently owns the store.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take over the online store of another offline log.

    Rows and deletes of the other log stay until they are replaced, or 'headwater materialize --force' removes what
    this history lacks. They may exist nowhere else. Rows of window views are removed; the next run fills them again.
    """
    if not yes and not run.confirm(
        "Rows and deletes of the other offline log stay in the online store until they are replaced; they may exist "
        "nowhere else, and its hosts can no longer write. Continue?"
    ):
        raise UsageError("nothing was changed; --yes continues without asking")
    with run.store() as store:
        position = store.claim_store(log_id)
    run.answer(
        {"log": log_id, "position": position},
        Line("the online store belongs to this offline log now; run 'headwater materialize'", "green"),
    )
