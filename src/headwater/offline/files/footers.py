"""What the footers of Parquet files tell without reading them: rows, NULLs and ranges of time."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.errors import SourceError
from headwater.offline.files.kinds import refuse_no_parquet
from headwater.offline.files.lacking import lacking_names
from headwater.planning.partitions import Partitions


def read_footers(files: Sequence[str | Path], where: str) -> tuple[pq.FileMetaData, ...]:
    """The footer of each file.

    Raises:
        SourceError: a file that is missing or not Parquet.
    """
    found = []
    for file in files:
        try:
            found.append(pq.read_metadata(file))
        except (pa.ArrowException, OSError) as bad:
            refuse_no_parquet(str(file), where)
            raise SourceError(f"{where}: {file}: {bad}") from bad
    return tuple(found)


def lacking(
    files: Sequence[str], footers: Sequence[pq.FileMetaData], columns: Iterable[str], parts: Partitions
) -> dict[str, str]:
    """Column → which files lack it: the first, and how many more. A partition column is a column of its files."""
    if len(files) == 1:
        return {}
    given: Sequence[Mapping[str, str | None]] = parts.values or [{}] * len(files)
    names = [(*f.schema.to_arrow_schema().names, *part) for f, part in zip(footers, given, strict=True)]
    return lacking_names(files, names, columns)


def null_count(footers: Sequence[pq.FileMetaData], column: str) -> int | None:
    """How many NULLs a flat column holds; None where a footer does not tell."""
    total = 0
    for _, part in _chunks(footers, column):
        if part is None or part.statistics is None or not part.statistics.has_null_count:
            return None
        total += part.statistics.null_count
    return total


def greatest(footers: Sequence[pq.FileMetaData], column: str) -> int | None:
    """The greatest number in a column of integers without NULLs; None where a footer does not tell."""
    most = -1
    for _, part in _chunks(footers, column):
        if part is None or part.statistics is None or not part.statistics.has_min_max:
            return None
        most = max(most, part.statistics.max_raw)
    return most if footers else None


def time_range(footers: Sequence[pq.FileMetaData], column: str) -> tuple[int, int] | None:
    """The least and greatest time in a column (microseconds, rounded up); None where a footer does not tell."""
    least: list[int] = []
    most: list[int] = []
    for described, part in _chunks(footers, column):
        scale = None if described is None else _scale(described)
        if part is None or scale is None:
            return None
        found = part.statistics
        if found is not None and found.has_min_max:
            least.append(math.ceil(found.min_raw * scale))
            most.append(math.ceil(found.max_raw * scale))
        elif found is None or found.null_count != part.num_values:
            return None
    return (min(least), max(most)) if least else None


def time_ranges(footer: pq.FileMetaData, columns: Iterable[str]) -> Iterator[tuple[str, tuple[int, int] | None]]:
    """The least and greatest time in some columns of a file (microseconds, rounded up), also of lists of times.

    Columns that the file lacks, and those without a value, are left out; None where the footer does not tell.
    """
    paths: dict[str, list[int]] = {}
    for i in range(len(footer.schema)):
        path = footer.schema.column(i).path
        for name in {path, path.partition(".")[0]}:
            paths.setdefault(name, []).append(i)
    for column in columns:
        found: list[tuple[int, int] | None] = []
        for i in paths.get(column, ()):
            scale = _scale(footer.schema.column(i))
            for group in range(footer.num_row_groups):
                part = footer.row_group(group).column(i)
                statistics = part.statistics
                if statistics is not None and statistics.has_min_max and scale is not None:
                    found.append((math.ceil(statistics.min_raw * scale), math.ceil(statistics.max_raw * scale)))
                elif statistics is None or not statistics.has_null_count or statistics.null_count != part.num_values:
                    found.append(None)
        known = [ends for ends in found if ends is not None]
        if len(known) < len(found):
            yield column, None
        elif known:
            yield column, (min(low for low, _ in known), max(high for _, high in known))


@dataclass(frozen=True)
class Sizes:
    """How many files and rows are read, and how many bytes of their columns, compressed."""

    files: int = 0
    rows: int = 0
    bytes: int = 0


def sizes(
    footers: Sequence[pq.FileMetaData],
    columns: Collection[str],
    time: str | None = None,
    lower: int | None = None,
    upper: int | None = None,
) -> Sizes:
    """What is read of some columns, where row groups stay unread whose times are all outside of a range.

    Args:
        footers: of the files.
        columns: those that are read; files may lack them.
        time: a column of times; None: all row groups are read.
        lower, upper: the range (microseconds), both inclusive; None: without bound.
    """
    files = rows = size = 0
    for footer in footers:
        paths = [footer.schema.column(i).path for i in range(len(footer.schema))]
        read = [i for i, path in enumerate(paths) if path in columns or path.partition(".")[0] in columns]
        groups = [group for group in range(footer.num_row_groups) if _reached(footer, group, paths, time, lower, upper)]
        files += bool(groups)
        rows += sum(footer.row_group(group).num_rows for group in groups)
        size += sum(footer.row_group(group).column(i).total_compressed_size for group in groups for i in read)
    return Sizes(files, rows, size)


def _reached(
    footer: pq.FileMetaData, group: int, paths: Sequence[str], time: str | None, lower: int | None, upper: int | None
) -> bool:
    """Whether a row group may have a time within a range."""
    if time is None or time not in paths:
        return True
    place = paths.index(time)
    scale, found = _scale(footer.schema.column(place)), footer.row_group(group).column(place).statistics
    if scale is None or found is None or not found.has_min_max:
        return True
    # an engine compares the times as they are stored: a date is one of its day's
    before = 86_400_000_000 if scale == 86_400_000_000 else 1
    late = lower is not None and math.ceil(found.max_raw * scale) < lower - before
    return not late and (upper is None or math.ceil(found.min_raw * scale) <= upper)


def _chunks(footers: Sequence[pq.FileMetaData], column: str) -> Iterator[tuple[Any, Any]]:
    """What a column is in each file, and its part of each row group; None for a file that lacks it."""
    for footer in footers:
        places = [i for i in range(len(footer.schema)) if footer.schema.column(i).path == column]
        if len(places) != 1:
            yield None, None
            continue
        for group in range(footer.num_row_groups):
            yield footer.schema.column(places[0]), footer.row_group(group).column(places[0])


def _scale(column: Any) -> Fraction | None:
    """Microseconds in one unit of a time column of a file; the file's own type tells, not Arrow's."""
    logical = json.loads(column.logical_type.to_json())
    if logical["Type"] == "Date":
        return Fraction(86_400_000_000)
    scales = {"milliseconds": Fraction(1000), "microseconds": Fraction(1), "nanoseconds": Fraction(1, 1000)}
    return scales.get(logical.get("timeUnit")) if logical["Type"] == "Timestamp" else None
