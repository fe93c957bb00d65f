"""What DuckDB would read of a view: footers of Parquet files, sizes of other files, tables in memory, the log."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from headwater.clock import to_micros
from headwater.definitions.source import Source
from headwater.definitions.sources import ParquetSource, PushSource, TableSource
from headwater.errors import DataError, SourceError
from headwater.offline.engines.duckdb.files import ParquetFiles
from headwater.offline.engines.duckdb.parquet_sources import parquet_footers
from headwater.offline.engines.duckdb.remote_parquet import list_remote_parquet
from headwater.offline.engines.duckdb.sources import list_files
from headwater.offline.engines.duckdb.zones import source_zone
from headwater.offline.estimates import Reach, SourceEstimate, listed, of_log, reach_of, source_name
from headwater.offline.files.footers import Sizes, sizes
from headwater.offline.files.locations import is_remote
from headwater.offline.files.remote import read_all, remote_rows
from headwater.offline.join.events import as_rows
from headwater.offline.requests import HistoryRequest, ViewInput
from headwater.offline.windows.tables import TableKernel
from headwater.planning.resolved import ResolvedView
from headwater.planning.tables import as_table

_A_DAY = 86_400_000_000


def estimated(
    request: HistoryRequest, view: ViewInput, folder: Path, within: tuple[int, int] | None
) -> Iterator[SourceEstimate]:
    """The lines of one view; see `OfflineEngine.estimate`."""
    read, where = as_rows(view), f"view {view.view.name!r} ({view.view.version})"
    features = _feature_columns(view.view)
    source = view.source
    if source is not None and not isinstance(source, PushSource):
        found = _of_source(source, read.view, features, reach_of(request, view.view, within), folder, where)
        if found is None:
            yield listed(view.view, source, list_files(source, folder, where))
        else:
            yield replace(found, view=view.view.label)
    log = of_log(read, features)
    if log is not None:
        yield log


def _feature_columns(view: ResolvedView) -> list[str]:
    """The columns that the features asked for are made of."""
    if view.windows is None:
        return [feature.source_column for feature in view.features]
    by_name = {feature.name: feature for feature in view.windows.features}
    asked = tuple(by_name[feature.name] for feature in view.features)
    ids = view.view.source.event_id is not None
    return list(TableKernel(view.windows, asked, dict(view.view.columns), ids, None, False, True).columns)


def _of_source(
    source: Source, view: ResolvedView, features: Collection[str], reach: Reach, folder: Path, where: str
) -> SourceEstimate | None:
    """What is read of a source; None where the listing of its files has to do."""
    keys = [key.source_column for key in view.keys]
    ids = [source.event_id] if view.windows and source.event_id is not None else []
    used = {*keys, *source.times, *ids}
    every = used | {*view.view.source_columns} | ({source.event_id} if source.event_id is not None else set())
    match source:
        case ParquetSource() if is_remote(source.location):
            found = _in_object_store(source, every, where)  # its columns are copied first
        case ParquetSource():
            found = _on_disk(source, used | {*features}, every, reach, folder, where)
        case TableSource():
            try:
                table = as_table(source.table, where)
            except DataError as bad:
                raise SourceError(str(bad)) from bad
            table = table.select([name for name in table.column_names if name in every])
            return SourceEstimate("", source_name(source), None, table.num_rows, table.nbytes)
        case _:
            return None
    return SourceEstimate("", source_name(source), found.files, found.rows, found.bytes)


def _in_object_store(source: ParquetSource, columns: Collection[str], where: str) -> Sizes:
    """All rows of files in an object store."""
    listing = list_remote_parquet(source, where)
    fragments = remote_rows(listing, where).dataset.get_fragments()
    return sizes(list(read_all(listing, (fragment.metadata for fragment in fragments), where)), columns)


def _on_disk(
    source: ParquetSource, used: Collection[str], every: Collection[str], reach: Reach, folder: Path, where: str
) -> Sizes:
    """The row groups and partitions that a range of event times reaches."""
    files, footers = parquet_footers(source, folder, where)
    if files.clashing:  # its columns are copied first
        return sizes(footers, every)
    time = source.event_time
    if time is None or source_zone(source) is not None:  # of local times footers tell nothing
        return sizes(footers, used)
    days = _days(files, time)
    read = [
        footer
        for footer, day in zip(footers, days, strict=True)
        if day is None
        or ((reach.lower is None or day >= reach.lower - _A_DAY) and (reach.upper is None or day <= reach.upper))
    ]
    return sizes(read, used, time, reach.lower, reach.upper)


def _days(files: ParquetFiles, time: str) -> list[int | None]:
    """The event time of each file where it is a day in the name of its folder (microseconds); else None."""
    kind = files.parts.types.get(time)
    if kind is None or not pa.types.is_date(kind):
        return [None] * len(files.files)
    texts = [values.get(time) for values in files.parts.values]
    return [None if text is None else to_micros(text) for text in texts]
