"""Parquet files on disk as DuckDB relations: views over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.definitions.sources import ParquetSource
from headwater.errors import SourceError
from headwater.forks import lazy
from headwater.offline.base import SourceScope
from headwater.offline.engines.duckdb.files import ParquetFiles
from headwater.offline.engines.duckdb.mixed import by_type, check_schemas, fitted_query, mixed_columns
from headwater.offline.engines.duckdb.opened import (
    PLACE,
    ROW,
    Branch,
    Opened,
    Session,
    Wanted,
    check_columns,
    check_every_file,
    schema_of,
    with_twins,
)
from headwater.offline.engines.duckdb.unreadable import (
    check_files,
    check_rows,
    look_at_files,
)
from headwater.offline.engines.duckdb.words import name_sql
from headwater.offline.files.footers import lacking, read_footers
from headwater.offline.files.kinds import refuse_no_parquet
from headwater.offline.files.lacking import check_case, first_files, saying, with_files
from headwater.offline.files.local import SourceFile, list_local, root_of
from headwater.planning.partitions import Partitions, partition_names, partitions

_DUCKDBS_OWN = frozenset(("file_row_number", "file_index", "filename"))
SUFFIXES = (".parquet", ".pq", ".parq")
"""Of the names of Parquet files."""


@dataclass(frozen=True)
class _Listed:
    """The files of a source that a run reads.

    Attributes:
        files: in order of name.
        scanned: the same as DuckDB reads them.
        footers: theirs, where they had to be read.
    """

    files: Sequence[SourceFile]
    scanned: ParquetFiles
    footers: tuple[pq.FileMetaData, ...] | None = None


def parquet_files(source: ParquetSource, folder: Path, where: str) -> list[SourceFile]:
    """The Parquet files of a source on disk.

    Raises:
        SourceError: none is there, or they cannot be listed.
    """
    return list_local(source.location, folder, SUFFIXES, where)


def parquet_query(source: ParquetSource, folder: Path, where: str) -> str:
    """All rows of the files of a source on disk."""
    return _listed(source, folder, where, None).scanned.query()


def parquet_schema(
    session: Session, source: ParquetSource, folder: Path, where: str, *, every_file: bool = False
) -> pa.Schema:
    """Names and types of the columns of a source on disk.

    Args:
        session: the names of one run.
        source, folder, where: the source.
        every_file: whether a column that some files lack says so in its metadata (`LACKING`).
    """
    found = _listed(source, folder, where, None)
    try:
        schema = schema_of(session, found.scanned.query(), where)
    except SourceError:
        for file in found.scanned.files:
            refuse_no_parquet(file, where)
        raise
    if not every_file:
        return schema
    names = found.scanned.files
    footers = found.footers or read_footers(names, where)
    schema = with_twins(schema, _columns(footers, found.scanned.parts))
    lack = lacking(names, footers, schema.names, found.scanned.parts)
    named = _named_in([footer.schema.to_arrow_schema() for footer in footers], found.scanned.parts)
    made = with_files(saying(schema, lack), first_files(names, named))
    pandas = (footers[0].schema.to_arrow_schema().metadata or {}).get(b"pandas") if footers else None
    return made if pandas is None else made.with_metadata({**(made.metadata or {}), b"pandas": pandas})


def _listed(source: ParquetSource, folder: Path, where: str, only: frozenset[str] | None) -> _Listed:
    """The files with their partitions; footers are read only where there may be any."""
    every, root = parquet_files(source, folder, where), root_of(source.location, folder)
    chosen = [i for i, file in enumerate(every) if only is None or file.path in only]
    files, names = [every[i] for i in chosen], [file.location for file in every]
    mine = [names[i] for i in chosen]
    if not partition_names(names, root):
        return _Listed(files, ParquetFiles(mine, root, Partitions()))
    footers = read_footers(mine, where)
    columns = _columns(footers)
    # what a partition's values are is for all files to say
    parts = partitions(names, root, columns)
    own = Partitions(parts.types, tuple(parts.values[i] for i in chosen))
    scanned = ParquetFiles(mine, root, own, _clash([*columns, *parts.types]))
    return _Listed(files, scanned, footers)


def _named_in(schemas: Sequence[pa.Schema], parts: Partitions) -> list[list[str]]:
    """The columns of each file, and those that its folders give."""
    given: Sequence[Mapping[str, str | None]] = parts.values or [{}] * len(schemas)
    return [[*schema.names, *values] for schema, values in zip(schemas, given, strict=True)]


def parquet_footers(
    source: ParquetSource, folder: Path, where: str
) -> tuple[ParquetFiles, tuple[pq.FileMetaData, ...]]:
    """The files of a source on disk as DuckDB reads them, and their footers."""
    files = _listed(source, folder, where, None)
    footers = files.footers or read_footers(files.scanned.files, where)
    return replace(files.scanned, clashing=_clash(_columns(footers, files.scanned.parts))), footers


def parquet_schemas(source: ParquetSource, folder: Path, where: str) -> tuple[Sequence[str], list[pa.Schema]]:
    """The files of a source on disk, and the columns of each."""
    files, footers = parquet_footers(source, folder, where)
    return files.files, [footer.schema.to_arrow_schema() for footer in footers]


def _columns(footers: Sequence[pq.FileMetaData], parts: Partitions | None = None) -> list[str]:
    """The columns of files, as they name them: DuckDB renames those that differ from another only in case."""
    names = dict.fromkeys(name for footer in footers for name in footer.schema.to_arrow_schema().names)
    return list(names | dict.fromkeys(parts.types if parts is not None else ()))


def _clash(names: Iterable[str]) -> bool:
    return not _DUCKDBS_OWN.isdisjoint(name.casefold() for name in names)


@dataclass(frozen=True)
class _Scan:
    """Files whose rows are numbered: a file's by its place in `order`, above the bits of the row in the file.

    Attributes:
        files: in order of name.
        scanned: the same as DuckDB reads them.
        footers: theirs.
        columns: the names of all their columns.
        mixed: the columns whose type differs between them: see `mixed_columns`.
        parts: places of files that one query reads, and whether the scope takes them whole.
        bits: of a row's number in its file.
    """

    files: Sequence[SourceFile]
    scanned: ParquetFiles
    footers: tuple[pq.FileMetaData, ...]
    columns: Sequence[str]
    mixed: Mapping[str, Sequence[pa.DataType | None]]
    parts: Sequence[tuple[Sequence[int], bool]]
    bits: int

    @lazy
    def order(self) -> list[int]:
        """The places of the files, as their rows are numbered."""
        return [i for some, _ in self.parts for i in some]

    @lazy
    def whole(self) -> list[int]:
        """The places of those that the scope takes whole, which come first in `order`."""
        return [i for some, whole in self.parts if whole for i in some]

    @property
    def file_rows(self) -> dict[str, int]:
        """File → how many rows it has, of those that the scope takes whole."""
        return {self.files[i].path: self.footers[i].num_rows for i in self.whole}

    @property
    def end(self) -> int:
        """The end of the row numbers."""
        return len(self.files) << self.bits

    def place(self, row: int) -> str:
        """A row's number as errors call it."""
        return f"{self.scanned.files[self.order[row >> self.bits]]}, row {row & ((1 << self.bits) - 1)}"


def open_parquet(
    session: Session, source: ParquetSource, folder: Path, wanted: Wanted, where: str, scope: SourceScope
) -> Opened | None:
    """The rows of a scope, numbered; None where no file of it is there.

    Raises:
        SourceError: a file that cannot be read, or lacks a key or time; a column that all files lack.
    """
    found = _listed(source, folder, where, scope.only)
    if not found.files:
        return None
    scan = _scan(found, source, wanted, where, scope)
    queries, schema = _queries(session, scan, wanted, where)
    added = "" if scope.only is None else _added(schema, wanted)
    there = schema.names
    if added:
        # the others may have it: that a column is in none of them is found where all are read
        schema = pa.schema([*schema, *(pa.field(n, pa.null()) for n in wanted.features_alone if n not in there)])
    check_columns(with_twins(schema, scan.columns), wanted.columns, where)
    lack = lacking(scan.scanned.files, scan.footers, wanted.columns, scan.scanned.parts)
    check_every_file(lack, wanted, where)
    unknown = check_files(scan.scanned.files, scan.footers, wanted.typed(schema), where)
    if scan.scanned.clashing:
        made = _copied(session, scan, wanted, schema, there, where)
    else:
        if unknown:
            place = found.scanned.query(f"filename || ', row ' || file_row_number AS {PLACE}")
            typed = [(column, schema.field(column).type) for column in unknown]
            look_at_files(session.fetch, scan.scanned.files, f"({place})", typed, where, PLACE)
        made = _viewed(session, scan, queries, schema, added)
    return replace(made, lacking=lack, file_rows=scan.file_rows, rows=scan.place)


def _scan(found: _Listed, source: ParquetSource, wanted: Wanted, where: str, scope: SourceScope) -> _Scan:
    """The files of a scope by what one query can read, those that are taken whole first.

    Raises:
        SourceError: columns of several files that cannot be read together.
    """
    names = found.scanned.files
    footers = found.footers or read_footers(names, where)
    columns = _columns(footers, found.scanned.parts)
    schemas = [footer.schema.to_arrow_schema() for footer in footers]
    check_case(names, _named_in(schemas, found.scanned.parts), wanted.columns, where)
    check_schemas(names, schemas, wanted.columns, where)
    mixed = mixed_columns(names, schemas, source, wanted, where)
    scanned = replace(found.scanned, clashing=_clash(columns))
    if scanned.clashing and mixed:
        raise SourceError(
            f"{where}: the type of column {next(iter(mixed))!r} differs between the files; beside a column named "
            f"{', '.join(sorted(_DUCKDBS_OWN))} columns are written with one type in all files"
        )
    whole = [i for i, file in enumerate(found.files) if scope.takes_whole(file.path)]
    rest = sorted(set(range(len(names))) - set(whole))
    parts = [(some, mine is whole) for mine in (whole, rest) for some in by_type(mixed, mine)]
    bits = max(1, max(footer.num_rows for footer in footers).bit_length())
    return _Scan(found.files, scanned, footers, columns, mixed, parts, bits)


def _queries(session: Session, scan: _Scan, wanted: Wanted, where: str) -> tuple[list[str], pa.Schema]:
    """A query of each part, and the columns of all; no query where a column has a name of DuckDB's own."""
    if scan.scanned.clashing:
        return [], schema_of(session, scan.scanned.query(), where)
    prunes = any(name in scan.scanned.parts.types for name in (*wanted.keys, *wanted.times))
    parts, first = [], 0
    for some, _ in scan.parts:
        parts.append((_some(scan.scanned, some), first))
        first += len(some)
    if scan.mixed:
        return _each_fitted(session, scan, parts, where, wanted, prunes=prunes)
    return _alike(session, scan.scanned, parts, scan.bits, where, prunes=prunes)


def _copied(
    session: Session, scan: _Scan, wanted: Wanted, schema: pa.Schema, there: Sequence[str], where: str
) -> Opened:
    """A table of the wanted columns: of files with a column that has a name of DuckDB's own.

    Raises:
        SourceError: a value that cannot be read.
    """
    ordered = _some(scan.scanned, scan.order)
    values = [name_sql(name) if name in there else f"NULL AS {name_sql(name)}" for name in wanted.columns]
    name = session.name("files")
    chosen = ", ".join([*values, ROW])
    session.run(f"CREATE TABLE {name} AS SELECT {chosen} FROM ({ordered.by_file(ROW, scan.bits)})")
    check_rows(session.fetch, name, wanted.typed(schema), where, f"'row ' || ({ROW} & {(1 << scan.bits) - 1})")
    end = len(scan.whole) << scan.bits
    branches = [Branch(name, True, f"{ROW} < {end}")] if scan.whole else []
    branches += [Branch(name, False, f"{ROW} >= {end}")] if end < scan.end else []
    return Opened(name, schema, scan.end, branches=tuple(branches))


def _viewed(session: Session, scan: _Scan, queries: Sequence[str], schema: pa.Schema, added: str) -> Opened:
    """A view of each part, and one of all of them."""
    branches = []
    for query, (_, whole) in zip(queries, scan.parts, strict=True):
        branches.append(Branch(session.name("file"), whole))
        session.run(f"CREATE VIEW {branches[-1].name} AS SELECT *{added} FROM ({query})")
    name = branches[0].name
    if len(branches) > 1:
        name = session.name("files")
        session.run(f"CREATE VIEW {name} AS {' UNION ALL BY NAME '.join(f'SELECT * FROM {b.name}' for b in branches)}")
    return Opened(
        name,
        schema,
        scan.footers[0].num_rows if len(scan.files) == 1 else scan.end,
        footers=scan.footers,
        branches=tuple(branches),
        fixed=False,
        row_count=sum(footer.num_rows for footer in scan.footers),
    )


def _some(files: ParquetFiles, chosen: Sequence[int]) -> ParquetFiles:
    values = tuple(files.parts.values[i] for i in chosen) if files.parts.values else ()
    return replace(files, files=[files.files[i] for i in chosen], parts=Partitions(files.parts.types, values))


def _alike(
    session: Session,
    whole: ParquetFiles,
    parts: Sequence[tuple[ParquetFiles, int]],
    bits: int,
    where: str,
    *,
    prunes: bool,
) -> tuple[list[str], pa.Schema]:
    """A query of each part with its row numbers, in the columns and types that all files have together."""
    schemas = [schema_of(session, files.query(), where) for files, _ in parts]
    queries = [files.numbered(ROW, bits, first, prunes=prunes) for files, first in parts]
    first = schemas[0]
    if all(set(schema) == set(first) for schema in schemas[1:]):
        return queries, first
    described = session.fetch(f"DESCRIBE {whole.query()}")
    types = {str(row[0]): str(row[1]) for row in described}
    return [
        f"SELECT {_cast(schema, types)}, {ROW} FROM ({query})" for schema, query in zip(schemas, queries, strict=True)
    ], schema_of(session, whole.query(), where)


def _each_fitted(
    session: Session,
    scan: _Scan,
    parts: Sequence[tuple[ParquetFiles, int]],
    where: str,
    wanted: Wanted,
    *,
    prunes: bool,
) -> tuple[list[str], pa.Schema]:
    """A query of each part, whose mixed columns are cast from the types that the part's files have."""
    schemas = [schema_of(session, files.query(), where) for files, _ in parts]
    described = session.fetch(f"DESCRIBE {scan.scanned.query()}")
    types = {str(row[0]): str(row[1]) for row in described}
    queries = []
    for (files, first), given in zip(parts, schemas, strict=True):
        query = files.numbered(ROW, scan.bits, first, prunes=prunes)
        queries.append(fitted_query(session, query, given, types, list(scan.mixed), wanted, where, scan.place))
    found = schema_of(session, f"SELECT * EXCLUDE ({ROW}) FROM ({queries[0]})", where)
    return queries, found


def _cast(schema: pa.Schema, types: dict[str, str]) -> str:
    there = {name.casefold(): name for name in schema.names}
    columns = []
    for name, kind in types.items():
        mine = there.get(name.casefold())
        value = "NULL" if mine is None else name_sql(mine)
        columns.append(f"CAST({value} AS {kind}) AS {name_sql(name)}")
    return ", ".join(columns)


def _added(schema: pa.Schema, wanted: Wanted) -> str:
    return "".join(f", NULL AS {name_sql(name)}" for name in wanted.features_alone if name not in schema.names)
