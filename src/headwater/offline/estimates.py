"""What a join would read, estimated without reading any row: a line for each source and each part of the log."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from headwater.clock import duration_micros
from headwater.definitions.source import Source
from headwater.definitions.sources import TEXT_SOURCES, ParquetSource
from headwater.offline.files.footers import read_footers, sizes
from headwater.offline.log_slice import ARRIVAL, POSITION
from headwater.offline.requests import HistoryRequest, ViewInput
from headwater.planning.files import FileIdentity
from headwater.planning.resolved import ResolvedView
from headwater.planning.row_reading import RowVersion

LOG = "offline log"
_FAR = 2**62


@dataclass(frozen=True)
class Estimate:
    """What a query would read.

    Attributes:
        rows: how many rows; None: not known.
        bytes: how many bytes; None: not known.
    """

    rows: int | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class SourceEstimate:
    """What a join would read of one source, or of a view's part of the offline log.

    Attributes:
        view: the view's label in the request.
        what: the kind of source and its location, or "offline log".
        files: how many files; None: they are not files, or it is not known.
        rows: how many rows; None: not known.
        bytes: how many bytes, as they are stored: of Parquet files those of the columns that are read, compressed; of
            text whole files; of tables in memory those of the columns; else what the engine says. None: not known.
    """

    view: str
    what: str
    files: int | None = None
    rows: int | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Reach:
    """The event times (microseconds) that a join reads of a view, both inclusive; None: without bound."""

    lower: int | None = None
    upper: int | None = None


def reach_of(request: HistoryRequest, view: ResolvedView, within: tuple[int, int] | None) -> Reach:
    """The event times of a view that a join to some instants reads.

    Args:
        request: what is asked.
        view: one of its views.
        within: the least and greatest instant of the spine, microseconds; None: not known.
    """
    if within is None or view.view.source.event_time is None:
        return Reach()
    ttl = min(_FAR, duration_micros(view.view.ttl_time))
    # every row of an entity lists it, and windows reach back as far as there are events
    bounded = ttl and view.windows is None and request.spine is not None
    return Reach(within[0] - ttl if bounded else None, within[1])


def source_name(source: Source) -> str:
    """A source as an estimate names it."""
    return f"{source.kind} {source.shown_location}".strip()


def listed(view: ResolvedView, source: Source, files: Sequence[FileIdentity] | None) -> SourceEstimate:
    """What the listing of a source's files tells.

    Args:
        view: the view.
        source: its source.
        files: as `OfflineEngine.list_files` gives them. What a query reads of its files is not known.
    """
    if files is None:
        return SourceEstimate(view.label, source_name(source))
    own = isinstance(source, (ParquetSource, *TEXT_SOURCES))
    size = sum(file.size for file in files) if own else None
    return SourceEstimate(view.label, source_name(source), len(files), None, size)


def of_log(view: ViewInput, columns: Collection[str]) -> SourceEstimate | None:
    """What is read of a view's part of the offline log; None: it has no row of the version.

    Args:
        view: the version as its rows are read, with its log.
        columns: of features; keys, times and positions are read besides.

    Raises:
        SourceError: a file that is missing or damaged.
    """
    version = RowVersion(view.view)
    parts = [] if view.log is None else [part for part in view.log.parts if version.needs.keys() <= part.columns]
    wanted = {*columns, *(k.source_column for k in view.view.keys), *version.times, POSITION, ARRIVAL}
    if view.view.view.source.event_id is not None:
        wanted.add(view.view.view.source.event_id)
    files = rows = size = 0
    for part in parts:
        if part.table is not None:
            rows += part.table.num_rows
            size += part.table.select([name for name in part.table.column_names if name in wanted]).nbytes
        found = sizes(read_footers(part.files, f"view {view.view.name!r}, {LOG}"), wanted)
        files, rows, size = files + found.files, rows + found.rows, size + found.bytes
    return SourceEstimate(view.view.label, LOG, files, rows, size) if rows else None
