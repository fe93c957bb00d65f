"""CSV files as text: which of them DuckDB reads in one go, and how each is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headwater.definitions.csv_format import CSVFormat
from headwater.definitions.sources import CSVSource
from headwater.errors import SourceError, printable
from headwater.offline.engines.duckdb.files import files_sql, list_sql
from headwater.offline.engines.duckdb.opened import (
    FILE,
    ROW,
    Session,
)
from headwater.offline.engines.duckdb.words import name_sql, text_sql
from headwater.offline.files.csv_files import (
    LONGEST_LINE,
    check_records,
    is_plain,
    read_header,
    write_plain,
)
from headwater.offline.files.lacking import lacking_names
from headwater.offline.files.local import SourceFile, root_of
from headwater.planning.partitions import partitions

_NOWHERE = "\x01headwater\x01"


@dataclass(frozen=True)
class _Scan:
    """Files that DuckDB reads in one go: of the same columns, written in the same way.

    Attributes:
        names: their columns, in order.
        indexes: which of all files they are.
        paths: what is read.
        form: how they are written.
        delimiter: what separates their fields.
        copied: whether they are copies that `write_plain` made; else all their line ends are of one kind.
    """

    names: tuple[str, ...]
    indexes: tuple[int, ...]
    paths: tuple[str, ...]
    form: CSVFormat
    delimiter: str
    copied: bool = False

    def rows(self, columns: Mapping[str, str]) -> str:
        """A query of all rows, in order.

        Args:
            columns: the file's column → its name in the answer.
        """
        types = ", ".join(f"c{i}: 'VARCHAR'" for i in range(len(self.names)))
        form = self.form
        options = {
            "header": str(form.header).lower(),
            "skip": str(form.skip),
            "delim": character(self.delimiter),
            "quote": character(form.quote or ""),
            "escape": character(form.quote_escape or ""),
            # DuckDB wants one: where no text is NULL, it is one that no file holds
            "nullstr": list_sql(form.nulls or (_NOWHERE,)),
            "allow_quoted_nulls": str(not form.keeps_quoted).lower(),
        }
        if self.copied:
            # DuckDB takes the first line end for that of the records, and that may be one within quotes
            options["new_line"] = r"'\n'"
        stated = ", ".join(f"{name} = {value}" for name, value in options.items())
        chosen = [f"c{self.names.index(name)} AS {name_sql(shown)}" for name, shown in columns.items()]
        chosen.append(f"{_numbers(self.indexes)}[CAST(file_index AS BIGINT) + 1] AS {FILE}")
        return (
            f"SELECT {', '.join(chosen)} FROM read_csv({files_sql(self.paths)}, columns = {{{types}}}, {stated}, "
            f"comment = '', auto_detect = false, strict_mode = true, null_padding = false, ignore_errors = false, "
            f"max_line_size = {LONGEST_LINE}, hive_partitioning = false)"
        )


def _numbers(numbers: Sequence[int]) -> str:
    """Integers as a list of SQL."""
    return "[" + ", ".join(map(str, numbers)) + "]"


def character(text: str) -> str:
    """A character as a text of SQL."""
    return r"E'\t'" if text == "\t" else text_sql(text)


@dataclass(frozen=True)
class CSVFiles:
    """The CSV files of a source.

    Attributes:
        source: says how they are written.
        files: in order of name.
        headers: the columns of each.
        parts: partition column → of each file its value as text; None is NULL, or a file without that folder.
        where: for errors.
        repeated: the names that several columns of a file have → that file.
    """

    source: CSVSource
    files: Sequence[SourceFile]
    headers: Sequence[tuple[str, ...]]
    parts: Mapping[str, Sequence[str | None]]
    where: str
    repeated: Mapping[str, str]

    @property
    def names(self) -> list[str]:
        """All columns, in the order in which the files name them."""
        return list(dict.fromkeys([*(name for header in self.headers for name in header), *self.parts]))

    def lacking(self, columns: Iterable[str]) -> dict[str, str]:
        """Column → which files lack it."""
        # an empty file has no rows that could lack anything
        pairs = [(f.location, names) for f, names in zip(self.files, self.headers, strict=True) if names]
        names = [(*header, *self.parts) for _, header in pairs]
        return lacking_names([file for file, _ in pairs], names, columns)

    def check_names(self, columns: Iterable[str]) -> None:
        """Refuse a column of whose name a file has two.

        Raises:
            SourceError: naming the file.
        """
        for name in columns:
            if name in self.repeated:
                raise SourceError(
                    f"{self.where}: {self.repeated[name]}: two columns are named {name!r}; rename one in the file"
                )


def described(source: CSVSource, files: Sequence[SourceFile], folder: Path, where: str) -> CSVFiles:
    """The files with their columns and partitions."""
    form = source.format
    read = [read_header(file.location, form, where) for file in files]
    headers = [header.names for header in read]
    names = {name for header in headers for name in header}
    repeated = {name: f.location for f, header in zip(files, read, strict=True) for name in header.repeated}
    parts = partitions([file.location for file in files], root_of(source.location, folder), names)
    values = {name: [found.get(name) for found in parts.values] for name in parts.types}
    return CSVFiles(source, files, headers, values, where, repeated)


def load_text(
    session: Session, found: CSVFiles, columns: Sequence[str], chosen: Sequence[int], limit: int | None
) -> str:
    """A table of the columns as text (c0, …), `__file` and `__row` (from 0 over all files)."""
    try:
        return _read(session, found, columns, _scans(session, found, chosen), limit)
    except SourceError as bad:
        for i in chosen:
            check_records(found.files[i].location, found.source.format, found.where)
        failed = bad
    # nothing is wrong with them: DuckDB takes less than there is
    try:
        return _read(session, found, columns, _scans(session, found, chosen, rewrite=True), limit)
    except SourceError:
        first = str(failed).partition(";")[0].removeprefix("duckdb: ")
        raise SourceError(f"{found.where}: {found.files[chosen[0]].location}: {printable(first)}") from None


def _read(session: Session, found: CSVFiles, columns: Sequence[str], scans: Sequence[_Scan], limit: int | None) -> str:
    queries = []
    for scan in scans:
        there = {name: f"c{i}" for i, name in enumerate(columns) if name in scan.names and name not in found.parts}
        rows = scan.rows(there)
        given = {shown: name_sql(shown) for shown in there.values()}
        for i, name in enumerate(columns):
            if name in found.parts:
                listed = ", ".join("NULL" if v is None else text_sql(v) for v in found.parts[name])
                given[f"c{i}"] = f"CAST([{listed}] AS VARCHAR[])[{FILE} + 1]"
        chosen = [f"{given.get(f'c{i}', 'CAST(NULL AS VARCHAR)')} AS c{i}" for i in range(len(columns))]
        queries.append(f"SELECT {', '.join([*chosen, FILE])} FROM ({rows})")
    if not queries:
        empty = [f"CAST(NULL AS VARCHAR) AS c{i}" for i in range(len(columns))]
        queries.append(f"SELECT {', '.join([*empty, f'0 AS {FILE}'])} WHERE FALSE")
    raw = session.name("csv")
    union = " UNION ALL ".join(queries) + ("" if limit is None else f" LIMIT {limit}")
    session.run(f"CREATE TABLE {raw} AS SELECT *, row_number() OVER () - 1 AS {ROW} FROM ({union})")
    return raw


def _scans(session: Session, found: CSVFiles, chosen: Sequence[int], *, rewrite: bool = False) -> list[_Scan]:
    """The files in their order, neighbours of the same columns together; those that are not plain are rewritten."""
    form = found.source.format
    scans: list[_Scan] = []
    for i in chosen:
        file = found.files[i].location
        if not found.headers[i]:
            continue  # empty
        mine = _Scan(found.headers[i], (i,), (file,), form, form.delimiter_of(file))
        if rewrite or not is_plain(file, form, len(found.headers[i]), found.where):
            copy = session.temp_file(".csv")
            write_plain(file, form, copy, found.where)
            mine = _Scan(mine.names, (i,), (str(copy),), CSVFormat(header=False, nulls=form.nulls), ",", True)
        last = scans[-1] if scans else None
        if last is not None and replace(last, indexes=(), paths=()) == replace(mine, indexes=(), paths=()):
            scans[-1] = replace(last, indexes=(*last.indexes, i), paths=(*last.paths, *mine.paths))
        else:
            scans.append(mine)
    return scans
