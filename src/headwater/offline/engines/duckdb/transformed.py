"""The rows that a transformation in Python makes of its sources."""

from __future__ import annotations

import traceback
from collections.abc import Mapping

import pyarrow as pa

from headwater.definitions.transforms import TransformSource
from headwater.errors import HeadwaterError, SourceError, raised
from headwater.planning.cast import fit, fit_time, misfits
from headwater.types import Timestamp, castable


def transformed_schema(source: TransformSource) -> pa.Schema:
    """The columns that the function declares."""
    return pa.schema([(name, dtype.arrow) for name, dtype in source.schema.items()])


def run_transform(source: TransformSource, tables: Mapping[str, pa.Table], where: str) -> pa.Table:
    """Call the function, and take the columns that it declares.

    Args:
        source: the transformation, its function compiled.
        tables: argument → all rows of its source.
        where: for errors.

    Raises:
        SourceError: it raised, or returned what is not a table of its columns, or values that do not fit.
    """
    if source.function is None:
        raise SourceError(f"{where}: its transformation {source.name}() runs in a store; apply the view, then read")
    inside = f"{where}: its transformation {source.name}()"
    try:
        made = source.function(**tables)
    except (HeadwaterError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as bad:
        raise SourceError(f"{inside} raised {_said(bad)}") from bad
    if isinstance(made, pa.RecordBatch):
        made = pa.Table.from_batches([made])
    if not isinstance(made, pa.Table):
        raise SourceError(f"{inside} must return a pyarrow.Table, not {type(made).__name__}")
    columns = []
    times = source.times
    for name, dtype in source.schema.items():
        if name not in made.column_names:
            raise SourceError(f"{inside} returned no column {name!r}; it returned {', '.join(made.column_names)}")
        if made.column_names.count(name) > 1:
            raise SourceError(f"{inside} returned two columns named {name!r}")
        column = made.column(name)
        if dtype == Timestamp and name in times and pa.types.is_timestamp(column.type):
            # naive times are the time zone's of the source
            found = column if column.type.tz is None else fit_time(column).values
            columns.append(found)
            continue
        if not castable(column.type, dtype):
            raise SourceError(f"{inside} returned column {name!r} as {column.type}, its schema says {dtype}")
        fitted = fit(column, dtype)
        if fitted.bad is not None:
            raise SourceError(f"{inside}, column {name!r}: {misfits(column, fitted.bad, dtype)}")
        columns.append(fitted.values)
    return pa.table(columns, names=list(source.schema))


def _said(bad: BaseException) -> str:
    """An exception with the line of the function that raised it."""
    lines = [frame for frame in traceback.extract_tb(bad.__traceback__) if frame.filename.startswith("<transformation")]
    at = f" in line {lines[-1].lineno}" if lines else ""
    return f"{raised(bad, 300)}{at}"
