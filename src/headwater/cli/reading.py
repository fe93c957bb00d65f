"""`headwater get` and `history`: values for inference, and training sets."""

from __future__ import annotations

import enum
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from headwater.cli import complete, later, parse, values
from headwater.cli.run import Run, command
from headwater.errors import UsageError


class Consistency(enum.StrEnum):
    """The levels that one read alone, without a session, can ask for."""

    EVENTUAL = "eventual"
    STRONG = "strong"


_SHOWN = 10

FeaturesOption = Annotated[
    list[str],
    typer.Option(
        "--features",
        metavar="NAMES",
        help="view:feature, view:* or a service; separate several by commas or repeat the option.",
        autocompletion=complete.references,
    ),
]


FullNamesOption = Annotated[bool, typer.Option("--full-names", help="Name each column view__feature.")]

SpineArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="SPINE",
        help="Training rows: a .parquet or .csv file, or SQL. If omitted: every known entity, at --at.",
    ),
]

TimestampOption = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="The spine's time column.", show_default="timestamp or event_timestamp"),
]

AtOption = Annotated[
    Any, typer.Option(parser=parse.moment, metavar="TIME", help="One time for every row: a time, now, or -2h.")
]

TimezoneOption = Annotated[
    str | None,
    typer.Option(
        metavar="ZONE",
        help="Time zone of naive times, in the spine and --at: Europe/Berlin, +02:00.",
        show_default="UTC",
    ),
]


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    command(app)(get)
    command(app)(history)


def get(
    run: Run,
    features: FeaturesOption,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="NAME=VALUE", help="A join key's value; repeat it for each key and entity."),
    ] = None,
    request: Annotated[
        list[str] | None,
        typer.Option(
            "--request",
            metavar="NAME=VALUE",
            help="A value for on-demand features, for every entity; repeat it for each field and entity.",
        ),
    ] = None,
    consistency: Annotated[
        Consistency, typer.Option(help="strong: sees every write acknowledged before the read.")
    ] = Consistency.EVENTUAL,
    now: Annotated[
        Any,
        typer.Option(
            parser=parse.instant,
            metavar="TIME",
            help="Read as of this time, exactly: what was known only later is NOT_KNOWN.",
            show_default="now",
        ),
    ] = None,
    max_age: Annotated[
        Any,
        typer.Option("--max-age", parser=parse.duration, metavar="DURATION", help="A freshness SLA for this read: 5m."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show keys, stores, round trips and the time of each step.")
    ] = False,
    full_names: FullNamesOption = False,
) -> None:
    """Read features of some entities from the online store.

    Each value comes with its status, event time, age and freshness.
    """
    asked = parse.features(features)
    with run.store() as store:
        started = time.perf_counter()
        reader = store.prepare(asked, consistency=consistency.value, full_names=full_names or None)
        prepared = 1000 * (time.perf_counter() - started)
        entities = parse.entities(key or [], reader.join_keys)
        at = now or datetime.now(UTC)
        given = parse.request(request or [], reader.request_fields)
        how = {"max_age": max_age, "now": now}
        explanation = reader.explain(entities, given, **how) if explain else None
        result = reader.read(entities, given, **how) if explanation is None else explanation.result
        data, sheet = values.read(reader.request, result, at)
    if explanation is None:
        run.answer(data, sheet)
    else:
        steps, drawn = values.explained(explanation, prepared)
        run.answer(data | {"explain": steps}, sheet, *drawn)
    run.warn(values.not_known(result, at))
    run.warn([f"damaged row of {key}: {problem}" for key, problem in result.problems.items()])


def history(
    run: Run,
    features: FeaturesOption,
    spine: SpineArgument = None,
    timestamp: TimestampOption = None,
    at: AtOption = None,
    timezone: TimezoneOption = None,
    now: Annotated[
        Any,
        typer.Option(
            parser=parse.instant,
            metavar="TIME",
            help="The time that a relative --at counts from.",
            show_default="now",
        ),
    ] = None,
    include: Annotated[
        str, typer.Option(metavar="status,event_time", help="Columns to add beside each feature or view.")
    ] = "",
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Output file: .parquet or .csv; if omitted, a few rows are shown. Rows that Spark writes itself are a "
            "folder of Parquet files, also at a URL: s3://bucket/result.",
        ),
    ] = None,
    bucket: Annotated[
        Any,
        typer.Option(
            parser=parse.bucket,
            metavar="I/N",
            help="Only part I of N, from 0/N: one process computes each part, on any machine.",
        ),
    ] = None,
    estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Only show what would be read: files, rows and bytes. No feature is read."),
    ] = False,
    csv: parse.CSVOption = None,
    full_names: FullNamesOption = False,
) -> None:
    """Join features to training rows, point-in-time correct.

    One row out for each row of the spine, in order, with what was known at its time.
    """
    if spine is None and at is None:
        raise UsageError("no rows: name a spine (a .parquet or .csv file, or SQL), or --at TIME for every known entity")
    if out is not None and estimate:
        raise UsageError("--estimate and --out are mutually exclusive: an estimate writes no rows")
    if out is not None:
        later.files.check_output(out)
    names, beside = parse.features(features), parse.included(include)
    with run.store() as store:
        given = later.files.read_spine(
            spine, store.registry.snapshot(), names, timestamp, later.files.csv_options(csv or [])
        )
        result = store.get_historical_features(
            given.rows,
            names,
            timestamp_column=timestamp,
            at=None if at is None else at.given(now or datetime.now(UTC)),
            full_names=full_names or None,
            include=beside,
            timezone=timezone,
            bucket=bucket,
        )
        if estimate:
            run.answer(*values.estimated(result.estimate()))
            return
        taken = later.files.write_result(result, out, None if run.json else _SHOWN, given.texts)
        data, drawn = values.joined(result, taken, out)
    run.answer(data, *drawn)
    run.warn(result.metadata.warnings)
