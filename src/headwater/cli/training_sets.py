"""`headwater training-set`: training sets saved, listed, shown and verified."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater.cli import complete, later, parse
from headwater.cli.plain import plain
from headwater.cli.reading import (
    AtOption,
    FeaturesOption,
    FullNamesOption,
    SpineArgument,
    TimestampOption,
    TimezoneOption,
)
from headwater.cli.run import Run, command
from headwater.cli.sheet import Drawable, Line, Sheet
from headwater.errors import UsageError

if TYPE_CHECKING:
    from headwater.compute.training_sets.report import TrainingSetReport
    from headwater.compute.training_sets.training_set import TrainingSet

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME[@VERSION]", help="The set; without a version the newest.", autocompletion=complete.training_sets
    ),
]


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    group = typer.Typer(help="Saved training sets.", rich_markup_mode=None, no_args_is_help=True)
    command(group, name="create")(create)
    command(group, name="list")(list_sets)
    command(group, name="show")(show)
    command(group, name="verify")(verify)
    app.add_typer(group, name="training-set")


def create(
    run: Run,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name: letters, digits, '.', '_' and '-'.")],
    features: FeaturesOption,
    spine: SpineArgument = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--labels", metavar="COLUMNS", help="Columns of the spine that a model predicts."),
    ] = None,
    timestamp: TimestampOption = None,
    at: AtOption = None,
    timezone: TimezoneOption = None,
    include: Annotated[
        str, typer.Option(metavar="status,event_time", help="Columns to add beside each feature or view.")
    ] = "",
    csv: parse.CSVOption = None,
    full_names: FullNamesOption = False,
) -> None:
    """Join features to training rows and save the result as the set's next version.

    The rows and a manifest of what they were made of are written to the project's folder of training sets.
    """
    if spine is None and at is None:
        raise UsageError("no rows: name a spine (a .parquet or .csv file, or SQL), or --at TIME for every known entity")
    names, beside = parse.features(features), parse.included(include)
    predicted = [part.strip() for text in labels or () for part in text.split(",")]
    with run.store() as store:
        given = later.files.read_spine(
            spine, store.registry.snapshot(), names, timestamp, later.files.csv_options(csv or [])
        )
        made = store.save_training_set(
            name,
            given.rows,
            names,
            predicted,
            timestamp_column=timestamp,
            at=None if at is None else at.given(datetime.now(UTC)),
            timezone=timezone,
            full_names=full_names or None,
            include=beside,
        )
    what = f"{_counted(len(made), 'row')}, {_counted(len(made.features), 'feature')}"
    text = f"saved {made.name} {made.version}: {what}, in {made.path}"
    run.answer(_row(made), Line(text, "green"))
    run.warn(made.manifest.warnings)


def list_sets(run: Run) -> None:
    """List the saved training sets, every version of each; one that cannot be read is a warning."""
    with run.store() as store:
        found = store.list_training_sets()
        rows = [_row(each) for each in found]
    columns = ["name", "version", "saved_at", "rows", "erased", "features", "labels", "service"]
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    unread = [_unread_row(name, why, list(columns)) for name, why in found.problems.items()]
    run.answer([*rows, *unread], Sheet.of("", columns, cells) if rows else Line("no training sets"))


def show(run: Run, name: NameArgument) -> None:
    """Show what a training set is and what it was made of: its manifest."""
    with run.store() as store:
        found = store.training_set(*_asked(name))
    run.answer(_row(found) | {"manifest": plain(found.manifest)}, *_drawn(found))


def verify(run: Run, name: NameArgument) -> None:
    """Rebuild a training set and compare it with what was saved, value by value.

    Exit code 0: every value is the same; 1: some are not, or the set cannot be rebuilt or is damaged. What of its
    inputs has changed since is listed either way.
    """
    with run.store() as store:
        report = store.training_set(*_asked(name)).verify()
    run.answer(plain(report.to_dict()), *_verdict(report))
    if not report.same:
        raise typer.Exit(1)


def _asked(name: str) -> tuple[str, int | None]:
    """Name and version of `NAME[@VERSION]`."""
    base, at, version = name.partition("@")
    if not at:
        return base, None
    if not (version.isascii() and version.isdigit()):
        raise UsageError(f"{name}: write NAME or NAME@VERSION, such as {base or 'delays'}@3")
    return base, int(version)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _row(found: TrainingSet) -> dict[str, Any]:
    made = found.manifest
    return {
        "name": made.name,
        "version": made.version,
        "saved_at": made.saved_at,
        "rows": made.rows.rows,
        "erased": made.rows.erased,
        "features": found.features,
        "labels": found.labels,
        "service": made.service,
        "path": str(found.path),
        "file": str(found.file),
    }


def _unread_row(name: str, why: str, columns: list[str]) -> dict[str, Any]:
    base, version = _asked(name)
    return dict.fromkeys(columns) | {"name": base, "version": version, "problem": why}


def _cell(value: Any) -> Any:
    return ", ".join(value) if isinstance(value, list) else value


def _drawn(found: TrainingSet) -> list[Drawable]:
    made = found.manifest
    facts = [f"{made.name} {made.version}", _counted(made.rows.rows, "row"), f"saved {made.saved_at.isoformat()}"]
    facts += [f"{made.rows.erased:,} erased"] if made.rows.erased else []
    facts += [f"service {made.service}"] if made.service else []
    facts += [f"at {made.at.isoformat()}"] if made.at else []
    columns = [
        [c.name, c.role, c.dtype or c.type, c.reference, f"{c.null_rate:.1%}", *_extremes(c.statistics)]
        for c in made.columns
    ]
    sources = [
        [view.label, f"{view.name}@{view.version}", _source(view.source), view.log_rows or None] for view in made.views
    ]
    libraries = ", ".join(f"{name} {version}" for name, version in made.libraries.items())
    return [
        Line("; ".join(facts)),
        Sheet.of("columns", ["column", "role", "type", "feature", "NULL", "min", "max", "mean"], columns),
        Sheet.of("views", ["view", "version", "source", "rows of the offline log"], sources),
        Line(f"offline log {made.log.id} up to position {made.log.position}; {made.engine}; {libraries}", "dim"),
        Line(str(found.file), "dim"),
        *(Line(f"warning: {text}", "yellow") for text in made.warnings),
    ]


def _extremes(statistics: Any) -> list[Any]:
    found = (statistics.get(name) for name in ("min", "max", "mean"))
    return [f"{value:.6g}" if isinstance(value, float) else None if value is None else str(value) for value in found]


def _source(source: Any) -> str | None:
    if source is None:
        return None
    files = "" if source.files is None else f" ({_counted(len(source.files), 'file')})"
    return f"{source.kind} {source.location}{files}".strip()


def _verdict(report: TrainingSetReport) -> list[Drawable]:
    first, *notes = str(report).split("\n")
    return [*(Line(note.strip(), "yellow") for note in notes), Line(first, "green" if report.same else "red")]
