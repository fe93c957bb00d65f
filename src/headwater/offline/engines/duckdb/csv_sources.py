"""CSV files as DuckDB tables: text cast to the declared dtypes, what does not fit named by file and line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from headwater.definitions.csv_format import QUOTABLE, CSVFormat
from headwater.definitions.names import REPEATED_IN
from headwater.definitions.sources import CSVSource
from headwater.errors import SourceError, printable
from headwater.offline.base import SourceScope
from headwater.offline.engines.duckdb.files import files_sql, list_sql
from headwater.offline.engines.duckdb.opened import (
    FILE,
    ROW,
    Opened,
    Session,
    Wanted,
    check_columns,
    check_every_file,
    open_table,
    schema_of,
)
from headwater.offline.engines.duckdb.text import cast_text, cast_time, misfits, present, time_kind, with_offset
from headwater.offline.engines.duckdb.words import name_sql, text_sql
from headwater.offline.engines.duckdb.zones import count_changes, offset_problem, source_zone
from headwater.offline.files.csv_files import (
    LONGEST_LINE,
    check_records,
    is_plain,
    line_of_row,
    read_header,
    write_plain,
)
from headwater.offline.files.lacking import check_case, first_files, lacking_names, with_files
from headwater.offline.files.local import SourceFile, list_local, root_of
from headwater.planning.local_time import LocalTimes
from headwater.planning.partitions import partitions
from headwater.planning.text_hints import text_hint
from headwater.planning.text_values import PLAIN, value_of_text
from headwater.types import DType, String, Timestamp

_SUFFIXES = tuple(f".{kind}{packed}" for kind in ("csv", "tsv", "tab", "txt") for packed in ("", ".gz", ".zst"))
_BATCH = 10_000
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
            "delim": _character(self.delimiter),
            "quote": _character(form.quote or ""),
            "escape": _character(form.quote_escape or ""),
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


def _character(text: str) -> str:
    return r"E'\t'" if text == "\t" else text_sql(text)


@dataclass(frozen=True)
class _Files:
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


def csv_files(source: CSVSource, folder: Path, where: str) -> list[SourceFile]:
    """The CSV files of a source.

    Raises:
        SourceError: none is there, or they cannot be listed.
    """
    return list_local(source.location, folder, _SUFFIXES, where)


def csv_schema(session: Session, source: CSVSource, folder: Path, where: str) -> pa.Schema:
    """The columns of the files; all are text, but those that the source's schema declares."""
    if source.types_found:
        return schema_of(session, _found_types(source, folder, where), where)
    schema = source.query_types
    found = _described(source, csv_files(source, folder, where), folder, where)
    types = pa.schema([(name, schema[name].arrow if name in schema else pa.string()) for name in found.names])
    twice = {name: {REPEATED_IN: file.encode()} for name, file in found.repeated.items()}
    types = pa.schema([f.with_metadata(twice[f.name]) if f.name in twice else f for f in types])
    return with_files(types, first_files([file.location for file in found.files], found.headers))


def csv_query(
    session: Session, source: CSVSource, folder: Path, where: str, outer: str | None = None, *, rows: bool = True
) -> str:
    """All rows of the files: text, but the columns that the source's schema declares.

    Timestamps are instants where the source states a time zone, and naive where it states none.

    Args:
        session: the names of one run.
        source: the source.
        folder: the project's folder.
        where: for errors.
        outer: the time zone of the query that reads the rows, in which it takes naive times.
        rows: whether there are any; else the files are looked at for their columns alone.

    Raises:
        SourceError: a file that cannot be read, a text that is not of its dtype.
    """
    if source.types_found:
        return _found_types(source, folder, where)
    found = _described(source, csv_files(source, folder, where), folder, where)
    schema = source.query_types
    wanted = Wanted(values={name: (schema.get(name, String),) for name in found.names})
    shown = _distinct(found.names)
    outer = None if source.timezone is not None else outer
    every = range(len(found.files)) if rows else ()
    table, _, _ = _load(session, found, wanted, every, shown=shown, outer=outer)
    _check_headers(found, every)
    instants = set() if source.timezone is None else {name for name, dtype in schema.items() if dtype == Timestamp}
    columns = [f"make_timestamptz(epoch_us({c})) AS {c}" if n in instants else c for n, c in _quoted(shown)]
    return f"SELECT {', '.join(columns)} FROM {table}"


def _quoted(names: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, name_sql(shown)) for name, shown in names.items()]


def _found_types(source: CSVSource, folder: Path, where: str) -> str:
    """All rows as an earlier release read them for queries: in the types that DuckDB finds in the text."""
    files = [file.location for file in csv_files(source, folder, where)]
    nulls = list_sql(source.nulls or ("",))
    return (
        f"SELECT * FROM read_csv({files_sql(files)}, header = true, delim = "
        f"{_character(source.format.delimiter_of(source.location))}, quote = '\"', escape = '\"', nullstr = {nulls}, "
        "sample_size = -1, hive_partitioning = false)"
    )


def _distinct(names: Sequence[str]) -> dict[str, str]:
    """Names as a query shows them, where two that differ only in case are one: the later is `name_1`."""
    shown: dict[str, str] = {}
    folded: set[str] = set()
    for name in names:
        made, count = name, 0
        while made.casefold() in folded:
            count += 1
            made = f"{name}_{count}"
        folded.add(made.casefold())
        shown[name] = made
    return shown


def open_csv(
    session: Session, source: CSVSource, folder: Path, wanted: Wanted, where: str, scope: SourceScope
) -> Opened | None:
    """The rows of a scope in a table; None where no file of it is there.

    Raises:
        SourceError: a file that cannot be read, a column that is missing, text that is not of its dtype.
    """
    every = csv_files(source, folder, where)
    chosen = [i for i, file in enumerate(every) if scope.opens(file.path)]
    if not chosen:
        return None
    found = _described(source, every, folder, where)
    check_case([file.location for file in found.files], found.headers, wanted.columns, where)
    check_columns(pa.schema([(name, pa.string()) for name in found.names]), wanted.columns, where)
    check_every_file(found.lacking(wanted.columns), wanted, where)
    table, repeated, skipped = _load(session, found, wanted, chosen, limit=scope.rows)
    _check_headers(found, chosen)
    opened = open_table(session, table, every, chosen, scope)
    return replace(opened, repeated_times=repeated, skipped_times=skipped)


def _check_headers(found: _Files, chosen: Sequence[int]) -> None:
    """Refuse files whose columns are others than before they were read: the fields would be taken for each other.

    Raises:
        SourceError: naming the file.
    """
    for i in chosen:
        file = found.files[i].location
        if read_header(file, found.source.format, found.where).names != found.headers[i]:
            raise SourceError(f"{found.where}: {file} was replaced by a file of other columns while it was read")


def _described(source: CSVSource, files: Sequence[SourceFile], folder: Path, where: str) -> _Files:
    """The files with their columns and partitions."""
    form = source.format
    read = [read_header(file.location, form, where) for file in files]
    headers = [header.names for header in read]
    names = {name for header in headers for name in header}
    repeated = {name: f.location for f, header in zip(files, read, strict=True) for name in header.repeated}
    parts = partitions([file.location for file in files], root_of(source.location, folder), names)
    values = {name: [found.get(name) for found in parts.values] for name in parts.types}
    return _Files(source, files, headers, values, where, repeated)


def _load(
    session: Session,
    found: _Files,
    wanted: Wanted,
    chosen: Sequence[int],
    *,
    shown: Mapping[str, str] | None = None,
    limit: int | None = None,
    outer: str | None = None,
) -> tuple[str, int, int]:
    """A table of the rows of some files, in their order: the wanted columns in dtypes, numbers of row and file.

    With it, how many times are in an hour that a clock change repeats, and how many in one that it skips.

    Args:
        session: the names of one run.
        found: the files.
        wanted: the columns.
        chosen: which of the files.
        shown: column → its name in the table, where that is another.
        limit: how many rows, the first ones; None: all.
        outer: the time zone that a query takes naive times in; None: the source's, or UTC.

    Raises:
        SourceError: a file that cannot be read; text that is not of its dtype, of each column the first.
    """
    if shown is None:
        found.check_names(wanted.columns)
    raw = _load_text(session, found, wanted.columns, chosen, limit)
    casts, problems = _casts(session, found, wanted, raw)
    typed = session.name("rows")
    names = {column: name_sql((shown or {}).get(column, column)) for column in casts}
    columns = [*(f"{cast.value} AS {names[column]}" for column, cast in casts.items()), FILE, ROW]
    session.run(f"CREATE TABLE {typed} AS SELECT {', '.join(columns)} FROM {raw} ORDER BY {ROW}")
    _check_casts(session, found, raw, typed, {names[column]: cast for column, cast in casts.items()}, problems)
    if outer is not None:
        _check_naive(session, found, wanted, raw, outer)
    zone, times = source_zone(found.source), [f"c{i}" for i, c in enumerate(wanted.columns) if c in wanted.times]
    kinds = [] if zone is None else [time_kind(text, found.source.format, zone) for text in times]
    changes = count_changes(session, raw, kinds)
    session.run(f"DROP TABLE {raw}")
    return typed, *changes


def _load_text(
    session: Session, found: _Files, columns: Sequence[str], chosen: Sequence[int], limit: int | None
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


def _read(session: Session, found: _Files, columns: Sequence[str], scans: Sequence[_Scan], limit: int | None) -> str:
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


def _scans(session: Session, found: _Files, chosen: Sequence[int], *, rewrite: bool = False) -> list[_Scan]:
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


@dataclass(frozen=True)
class _Cast:
    """One column's text in its dtype.

    Attributes:
        column: its name.
        text: the column of its text.
        value: the expression of its value; NULL where the text has none.
        what: what the text has to be, for errors.
        dtype: what it becomes.
        nulls: texts that mean NULL in quotes too.
        checked: whether its texts were looked at already.
    """

    column: str
    text: str
    value: str
    what: str
    dtype: DType
    nulls: Sequence[str]
    checked: bool = False


def _casts(session: Session, found: _Files, wanted: Wanted, raw: str) -> tuple[dict[str, _Cast], list[str]]:
    """Column → its text in its dtype; and what is wrong with lists, which are parsed in Python."""
    form, zone = found.source.format, source_zone(found.source)
    casts: dict[str, _Cast] = {}
    problems: list[str] = []
    for i, column in enumerate(wanted.columns):
        dtype, time, text = wanted.declared(column, "CSV", found.where), column in wanted.times, f"c{i}"
        # in quotes they are texts to DuckDB; a folder's name is itself
        quoted = form.nulls if form.keeps_quoted and dtype.name not in QUOTABLE and column not in found.parts else ()
        listed = dtype.name in ("array", "embedding")
        if listed:
            bad, value = _lists(session, raw, text, dtype, zone, quoted)
        else:
            bad, value = [], cast_time(text, form, zone) if time else cast_text(text, dtype, form, zone)
            value = f"CASE WHEN {present(text, quoted)} THEN {value} END" if quoted else value
        casts[column] = _Cast(column, text, value, "a time" if time else str(dtype), dtype, quoted, listed)
        problems += [_problem(session, found, raw, casts[column], *row) for row in bad]
    return casts, problems


def _check_casts(
    session: Session, found: _Files, raw: str, typed: str, casts: Mapping[str, _Cast], problems: list[str]
) -> None:
    """Refuse text that has no value of its dtype; all such columns at once.

    Args:
        session: the names of one run.
        found: the files.
        raw: the table of texts.
        typed: the table of values.
        casts: a column of `typed` → what it was made of.
        problems: what is wrong so far.

    Raises:
        SourceError: with file, line and column of each column's first.
    """
    looked = {name: cast for name, cast in casts.items() if not cast.checked}
    if looked:
        # where as many values are there as texts, none has to be looked for, which costs another cast of each
        texts = [f"count(*) FILTER ({present(cast.text, cast.nulls)})" for cast in looked.values()]
        (there,) = session.fetch(f"SELECT {', '.join(texts)} FROM {raw}")
        (values,) = session.fetch(f"SELECT {', '.join(f'count({name})' for name in looked)} FROM {typed}")
        for cast, some, all_of_them in zip(looked.values(), values, there, strict=True):
            bad = session.fetch(misfits(cast.text, cast.value, raw, ROW, cast.nulls)) if some < all_of_them else ()
            problems += [_problem(session, found, raw, cast, *row) for row in bad]
    if problems:
        raise SourceError(f"{found.where}: {'; '.join(problems)}; correct the values, or list them in nulls=(…)")


def _problem(session: Session, found: _Files, raw: str, cast: _Cast, row: int, value: str) -> str:
    dtype = Timestamp if cast.what == "a time" else cast.dtype
    hint = text_hint(value, dtype, found.source.format, cast.column)
    said = f"{printable(value[:200])!r} is not {cast.what}{hint}"
    return f"{_line(session, found, raw, row)}, column {cast.column!r}: {said}"


def _check_naive(session: Session, found: _Files, wanted: Wanted, raw: str, outer: str) -> None:
    """Refuse times with an offset in a column that stays naive: the query would take them for times of its zone.

    Raises:
        SourceError: naming file, line and column.
    """
    form = found.source.format
    for i, column in enumerate(wanted.columns):
        if wanted.declared(column, "CSV", found.where) != Timestamp or not form.times.has_offset:
            continue
        for row, value in session.fetch(with_offset(f"c{i}", form, raw, ROW)):
            raise SourceError(
                f"{found.where}: {_line(session, found, raw, row)}, column {column!r}: "
                f"{offset_problem(value, outer, 'CSVSource')}"
            )


def _lists(
    session: Session, raw: str, text: str, dtype: DType, zone: LocalTimes | None, nulls: Sequence[str]
) -> tuple[list[tuple[int, str]], str]:
    """The first text that is no list, and the expression of the lists: they are parsed in Python, into a table."""
    bad: list[tuple[int, str]] = []

    def batches() -> Iterator[pa.RecordBatch]:
        first = 0
        while rows := session.fetch(
            f"SELECT {text} FROM {raw} WHERE {ROW} >= {first} AND {ROW} < {first + _BATCH} ORDER BY {ROW}"
        ):
            values: list[Any] = []
            for i, (value,) in enumerate(rows, first):
                try:
                    missing = value is None or value in nulls
                    values.append(None if missing else value_of_text(value, dtype, PLAIN, zone))
                except ValueError:
                    values.append(None)
                    bad[:] = bad or [(i, value)]
            yield pa.record_batch({ROW: range(first, first + len(rows)), "value": pa.array(values, dtype.arrow)})
            first += len(rows)

    label = session.name("lists")
    made = list(batches())
    schema = pa.schema([(ROW, pa.int64()), ("value", dtype.arrow)])
    session.load(label, schema, iter(made))
    return bad, f"(SELECT value FROM {session.table(label)} AS lists WHERE lists.{ROW} = {raw}.{ROW})"


def _line(session: Session, found: _Files, raw: str, row: int) -> str:
    """The file and line in which a row begins."""
    ((index, first),) = session.fetch(
        f"SELECT {FILE}, min({ROW}) FROM {raw} GROUP BY 1 HAVING min({ROW}) <= {row} AND max({ROW}) >= {row}"
    )
    file = found.files[index].location
    return f"{file}: line {line_of_row(file, found.source.format, row - first, found.where)}"
