"""The tables of a case in the other forms that users have: files in folders, CSV, queries, frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from headwater.definitions.source import Source
from headwater.definitions.sources import CSVSource, ParquetSource, PushSource, SQLSource, TableSource
from headwater.testing.cases import HistoryCase


def in_form(case: HistoryCase, form: Callable[[TableSource], Source]) -> dict[str, Source]:
    """The sources of a case in another form, by view; views that are only written to aside."""
    sources = {view.view.name: view.view.source for view in case.views}
    return {name: form(source) for name, source in sources.items() if isinstance(source, TableSource)}


def as_push(source: TableSource) -> PushSource:
    """What is written alone: none of the table's rows."""
    return PushSource(**settings_of(source))


def as_query(source: Source) -> SQLSource:
    """A source behind a query."""
    return SQLSource("SELECT * FROM rows_of_it", tables={"rows_of_it": source}, **settings_of(source))


def as_frame(source: TableSource, frames: str) -> TableSource:
    """The table as a pandas or polars frame."""
    return TableSource(to_frame(source.table, frames), **settings_of(source))


def as_csv(source: TableSource, folder: Path) -> CSVSource:
    """The table in a CSV file, an empty field for NULL."""
    file = folder / "rows.csv"
    csv.write_csv(source.table, file)
    return CSVSource(str(file), nulls=("",), **settings_of(source))


def to_frame(table: pa.Table, frames: str) -> Any:
    """An Arrow table as a pandas or polars frame."""
    if frames == "pandas":
        return table.to_pandas()
    import polars

    return polars.from_arrow(table)


def settings_of(source: Source) -> dict[str, Any]:
    """What every source says, as arguments of another one of the same rows."""
    names = {"event_time": source.event_time, "created_time": source.created_time, "event_id": source.event_id}
    if source.valid_to is not None:
        names = {name: value for name, value in names.items() if name != "event_time"}
        names |= {"valid_from": source.valid_from, "valid_to": source.valid_to}
    return names | {"delay": source.delay}


LAYOUTS = ("glob", "folder", "hive", "file")
"""How a source's files can lie: named by a pattern, in a folder, in folders that name a column, or one alone."""


def _write(table: pa.Table, folder: Path, groups: int, layout: str) -> str:
    """Two files of small row groups, or one; the location that names them."""
    half = table.num_rows // 2
    parts = [table] if layout == "file" else [table.slice(0, half), table.slice(half)]
    for i, part in enumerate(parts):
        place = folder / f"half={i}" if layout == "hive" else folder
        place.mkdir(parents=True, exist_ok=True)
        pq.write_table(part, place / f"{i}.parquet", row_group_size=groups)
    return str({"glob": folder / "*.parquet", "file": folder / "0.parquet"}.get(layout, folder))


def on_files(
    case: HistoryCase, folder: Path, groups: int, layout: str = "glob"
) -> tuple[HistoryCase, dict[str, Source]]:
    """The same case with sources in Parquet files of small row groups, and the log rolled into files."""
    sources: dict[str, Source] = {}
    views = []
    for view in case.views:
        definition = view.view
        source = definition.source
        if isinstance(source, TableSource):
            location = _write(source.table, folder / definition.name, groups, layout)
            sources[definition.name] = ParquetSource(location, **settings_of(source))
        parts = []
        for i, part in enumerate(view.parts):
            file = folder / f"log-{view.label}-{i}.parquet"
            pq.write_table(part.table, file, row_group_size=groups)
            parts.append(replace(part, table=None, files=(file,)))
        views.append(replace(view, parts=tuple(parts)))
    return replace(case, views=tuple(views)), sources


def dealt(source: TableSource, folder: Path, shares: Sequence[int], groups: int) -> ParquetSource:
    """The table in a folder of Parquet files, each of its rows in the file of a number, `0.parquet` and so on.

    Args:
        source: the table.
        folder: where the files are written.
        shares: for each row the number of its file; one may have no rows.
        groups: rows of a row group.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(max(shares, default=0) + 1):
        rows = pa.array([share == number for share in shares], pa.bool_())
        pq.write_table(source.table.filter(rows), folder / f"{number}.parquet", row_group_size=groups)
    return ParquetSource(str(folder), **settings_of(source))
