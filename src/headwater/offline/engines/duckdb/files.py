"""Files of a source as DuckDB queries, with the columns that their folders give."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from headwater.offline.engines.duckdb.words import FAILED, name_sql, text_sql
from headwater.offline.files.locations import literal_pattern
from headwater.planning.partitions import Partitions, partition_names

_ODD = re.compile("[=?%\\\\\n\r\0\ufffd]")
"""Characters of a partition's value that DuckDB does not take for its own, or that stand for bytes which it refuses."""

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
        """All rows of the files, with a further column where one is given."""
        if self.clashing:
            return self.by_file()
        more = f", {more}" if more else ""
        if self.as_duckdb_reads_them:
            return f"SELECT *{more} FROM {self._read}, {self._hive})"
        return f"SELECT *{looked_up(self.parts)}{more} FROM {self._read}, hive_partitioning = false)"

    def numbered(self, row: str, bits: int, first: int, *, prunes: bool) -> str:
        """All rows of the files with their numbers, each of which is the same whatever a query filters.

        Args:
            row: the column of the numbers: that of the file, shifted, and that of the row in the file.
            bits: by how many bits.
            first: the number of the first file.
            prunes: whether folders whose partitions a filter excludes need not be read.
        """
        if len(self.files) == 1:
            base = f"(CAST({first} AS BIGINT) << {bits}) | " if first else ""
            return self.query(f"{base}file_row_number AS {row}")
        number = f"((%s + {first}) << {bits}) | file_row_number AS {row}"
        if not (prunes and self.as_duckdb_reads_them):
            shown = number % "CAST(file_index AS BIGINT)"
            return f"SELECT *{looked_up(self.parts)}, {shown} FROM {self._read}, hive_partitioning = false)"
        # where DuckDB leaves out folders, its `file_index` counts those that are left: the name alone stays
        names = f"SELECT unnest({list_sql(self.files)}) AS name, unnest(range({len(self.files)})) AS number"
        unknown = f"error({text_sql(FAILED)} || 'not a file of the source: ' || r.filename)"
        shown = number % f"CASE WHEN n.number IS NULL THEN {unknown} ELSE n.number END"
        return (
            f"SELECT r.*, {shown} FROM {self._read}, {self._hive}) AS r LEFT JOIN ({names}) AS n ON r.filename = n.name"
        )

    @property
    def _read(self) -> str:
        return f"read_parquet({files_sql(self.files)}{', union_by_name = true' if len(self.files) > 1 else ''}"

    @property
    def _hive(self) -> str:
        types = ", ".join(f"{text_sql(name)}: {_TYPES[kind]}" for name, kind in self.parts.types.items())
        return f"hive_partitioning = true, hive_types_autocast = false, hive_types = {{{types}}}"

    @cached_property
    def as_duckdb_reads_them(self) -> bool:
        """Whether DuckDB finds the same partitions (in any folder of a path); it leaves out files by its own.

        Which texts are NULL, or are no text, differs between its versions.
        """
        return (
            bool(self.parts.types)
            and self.parts.uniform
            and not any("=" in part for part in self.root.parts)
            and all(_is_plain(file, values) for file, values in zip(self.files, self.parts.values, strict=True))
            and set(self.parts.types) == partition_names(self.files, self.root)
        )


def _is_plain(file: str, values: Mapping[str, str | None]) -> bool:
    """Whether the partitions of a path can be read in one way only: each once, and none that may be NULL."""
    if literal_pattern(file) != file or file.count("=") != len(values):
        return False
    return all(value and value.casefold() != "null" and not _ODD.search(value) for value in values.values())


def looked_up(parts: Partitions) -> str:
    """Partition columns by the number of the file."""
    columns = ""
    for name, kind in parts.types.items():
        values = (found.get(name) for found in parts.values)
        listed = ", ".join("NULL" if value is None else text_sql(value) for value in values)
        typed = f"CAST([{listed}] AS {_TYPES[kind]}[])"
        columns += f", {typed}[CAST(file_index AS BIGINT) + 1] AS {name_sql(name)}"
    return columns
