"""Parquet files that Spark reads where they are: those of which it gives the values that the embedded engine does."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.definitions.sources import ParquetSource
from headwater.offline.base import SourceScope
from headwater.offline.engines.spark.types import kept_type
from headwater.offline.files.locations import is_remote
from headwater.planning.files import FileIdentity

_MOST = 10_000
"""Of more files than this the footers are not read one by one."""
_CODECS = frozenset(("UNCOMPRESSED", "SNAPPY", "GZIP", "ZSTD", "LZ4", "LZ4_RAW"))
"""Those that every Spark brings."""
_WILD = re.compile(r"[][{}*?\\]")
"""What Spark takes as a pattern in a path."""


@dataclass(frozen=True)
class ReadableFiles:
    """Files of one schema.

    Attributes:
        files: as the source lists them.
        schema: their columns in the Arrow types that Spark has them in.
        folder: of relative paths.
    """

    files: tuple[FileIdentity, ...]
    schema: pa.Schema
    folder: Path

    def paths(self, files: Sequence[FileIdentity]) -> list[str]:
        """Where some of them are, for Spark."""
        return [local_url(self.folder / file.path) for file in files]

    def name(self, files: Sequence[FileIdentity]) -> str:
        """The name of the temporary view of some of them: the same of the same files."""
        text = "\n".join(f"{self.folder / f.path} {f.size} {f.modified_ns} {f.inode}" for f in files)
        return f"hw_files_{hashlib.sha256(f'{self.schema} {text}'.encode()).hexdigest()[:20]}"

    def scoped(self, scope: SourceScope | None) -> list[tuple[tuple[FileIdentity, ...], bool]]:
        """Those of a scope, with whether only the rows known after its instant are read of them."""
        opened = tuple(f for f in self.files if scope is None or scope.opens(f.path))
        if scope is None or scope.known_after is None:
            return [(opened, False)]
        whole = tuple(f for f in opened if scope.takes_whole(f.path))
        return [(whole, False), (tuple(f for f in opened if f not in whole), True)]


def local_url(path: Path) -> str:
    """A path of this machine for Spark, as that very name: no character of it is a wildcard."""
    return f"file://{_WILD.sub(_escaped, str(path.absolute()))}"


def _escaped(found: re.Match[str]) -> str:
    return f"\\{found.group()}"


def readable_files(
    source: ParquetSource, files: Sequence[FileIdentity], folder: Path, schemas: dict[FileIdentity, pa.Schema]
) -> ReadableFiles | None:
    """The files of a source, where Spark gives of them the values that the embedded engine gives.

    That is so where all of them have the same columns, of types that both read alike: no unsigned integers, times of
    nanoseconds (INT96 too), times of day or half floats; no two names that differ in case alone; no partitions in the
    names of folders, and no colon in that of a file; no naive times of another zone than UTC; no codec that Spark does
    not bring (Brotli).

    Args:
        source: the source.
        files: as it lists them.
        folder: of relative paths.
        schemas: of files whose footers were read before; new ones are added.
    """
    if is_remote(source.location) or source.timezone is not None or not 0 < len(files) <= _MOST:
        return None
    if any("=" in file.path or ":" in Path(file.path).name for file in files):
        return None
    first: pa.Schema | None = None
    for file in files:
        schema = schemas.get(file)
        if schema is None:
            schema = _schema(folder / file.path)
            if schema is None:
                return None
            if file.settled:
                schemas[file] = schema
        if first is None:
            first = schema
        elif schema.names != first.names or schema.types != first.types:
            return None
    assert first is not None
    if len({name.casefold() for name in first.names}) < len(first.names) or not all(map(_alike, first.types)):
        return None
    if any("${" in name for name in first.names):
        return None  # Hadoop's settings, through which the names reach its reader, take that for a variable
    return ReadableFiles(tuple(files), pa.schema([(f.name, kept_type(f.type)) for f in first]), folder)


def _schema(path: Path) -> pa.Schema | None:
    """The columns of a file; None where Spark cannot read it."""
    try:
        with pq.ParquetFile(path) as file:
            footer = file.metadata
            group = footer.row_group(0) if footer.num_row_groups else None
            codecs = {group.column(i).compression for i in range(group.num_columns)} if group is not None else set()
            return file.schema_arrow.remove_metadata() if codecs <= _CODECS else None
    except (OSError, pa.ArrowException):
        return None  # the embedded engine says what is wrong with it


def _alike(kind: pa.DataType) -> bool:
    """Whether Spark reads a column as the embedded engine does."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _alike(kind.value_type)
    if pa.types.is_dictionary(kind):
        return bool(pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type))
    if pa.types.is_timestamp(kind):
        return bool(kind.unit in ("ms", "us"))
    plain = (pa.types.is_signed_integer, pa.types.is_boolean, pa.types.is_float32, pa.types.is_float64)
    more = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return bool(any(is_one(kind) for is_one in (*plain, *more, pa.types.is_date32, pa.types.is_decimal128)))
