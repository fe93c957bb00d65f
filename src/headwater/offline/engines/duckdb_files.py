"""Files of a source as DuckDB queries, with the columns that their folders give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from headwater.offline.engines.duckdb_columns import name_sql, text_sql
from headwater.offline.locations import literal_pattern
from headwater.planning.partitions import Partitions, partition_names

_TYPES = {pa.date32(): "DATE", pa.int64(): "BIGINT", pa.string(): "VARCHAR"}


def list_sql(items: Sequence[str]) -> str:
    """Texts as a list of SQL."""
    return "[" + ", ".join(text_sql(item) for item in items) + "]"


def files_sql(files: Sequence[str]) -> str:
    """Paths of files as a list of SQL, none of which DuckDB takes for a pattern of paths."""
    return list_sql([literal_pattern(file) for file in files])


def stored_files(files: Sequence[str | Path]) -> str:
    """What FROM names for Parquet files of headwater's own, whatever the folders above them are called."""
    return f"read_parquet({files_sql([str(file) for file in files])}, union_by_name = true, hive_partitioning = false)"


@dataclass(frozen=True)
class ParquetFiles:
    """Parquet files of a source.

    Attributes:
        files: their paths, in order.
        root: the path that the source names.
        parts: their partition columns.
        clashing: whether a column is called as those that DuckDB adds of its own, which so cannot be had.
    """

    files: Sequence[str]
    root: Path
    parts: Partitions
    clashing: bool = False

    def by_file(self, row: str = "", bits: int = 0) -> str:
        """All rows, of file after file; in a column of this name their numbers: the file's, shifted, and the row's."""
        queries = []
        for i, file in enumerate(self.files):
            given = self.parts.values[i] if self.parts.values else {}
            columns = "".join(
                f", CAST({'NULL' if given.get(name) is None else text_sql(str(given[name]))} AS {_TYPES[kind]}) "
                f"AS {name_sql(name)}"
                for name, kind in self.parts.types.items()
            )
            if row:
                columns += f", (CAST({i} AS BIGINT) << {bits}) | (row_number() OVER () - 1) AS {name_sql(row)}"
            queries.append(f"SELECT *{columns} FROM read_parquet({files_sql([file])}, hive_partitioning = false)")
        return " UNION ALL BY NAME ".join(queries)

    def query(self, more: str = "") -> str:
        """All rows of the files, with a further column where one is given (it may use `file_index`)."""
        if self.clashing:
            return self.by_file()
        union = ", union_by_name = true" if len(self.files) > 1 else ""
        read, more = f"read_parquet({files_sql(self.files)}{union}", f", {more}" if more else ""
        if self._as_duckdb_reads_them:
            types = ", ".join(f"{text_sql(name)}: {_TYPES[kind]}" for name, kind in self.parts.types.items())
            hive = f"hive_partitioning = true, hive_types_autocast = false, hive_types = {{{types}}}"
            return f"SELECT *{more} FROM {read}, {hive})"
        return f"SELECT *{looked_up(self.parts)}{more} FROM {read}, hive_partitioning = false)"

    @property
    def _as_duckdb_reads_them(self) -> bool:
        """Whether DuckDB finds the same partitions (in any folder of a path); it leaves out files by its own."""
        return (
            bool(self.parts.types)
            and self.parts.uniform
            and not any("=" in part for part in self.root.parts)
            and set(self.parts.types) == partition_names(self.files, self.root)
        )


def looked_up(parts: Partitions) -> str:
    """Partition columns by the number of the file."""
    columns = ""
    for name, kind in parts.types.items():
        values = (found.get(name) for found in parts.values)
        listed = ", ".join("NULL" if value is None else text_sql(value) for value in values)
        typed = f"CAST([{listed}] AS {_TYPES[kind]}[])"
        columns += f", {typed}[CAST(file_index AS BIGINT) + 1] AS {name_sql(name)}"
    return columns
