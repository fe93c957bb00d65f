"""Parquet files of a source in an object store: which there are, what identifies each, all of them as one dataset."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

import pyarrow as pa

from headwater.errors import SourceError
from headwater.offline.files.lacking import lacking_names
from headwater.offline.files.locations import is_hidden, is_wild, none_there, path_matches
from headwater.offline.files.table_formats import ICEBERG_END, MARKS, marked_folder, refusal
from headwater.planning.files import FileIdentity
from headwater.planning.partitions import partitions
from headwater.types import UNITS
from headwater.urls import shown_location

if TYPE_CHECKING:
    import pyarrow.dataset as ds
    import pyarrow.fs as fs

T = TypeVar("T")

_URL = re.compile(
    r"(?P<scheme>[A-Za-z0-9]+)://(?P<bucket>[^/?]*)(?P<key>[^?]*(?:\?(?![A-Za-z_]+=)[^?]*)*)(?P<options>\?.*)?"
)
"""A `?` begins options only where one follows; else it is a wildcard."""
_AT_ONCE = 16
"""How many files are asked about at the same time: each answer takes some tens of milliseconds."""


@dataclass(frozen=True)
class RemoteFiles:
    """The files of a source in an object store.

    Attributes:
        location: the source's URL.
        filesystem: where they are.
        root: the folder that the source names; of a glob what comes before its first wildcard; of a file its own path.
        files: the listing's records of them, in order of name.
    """

    location: str
    filesystem: fs.FileSystem
    root: str
    files: tuple[fs.FileInfo, ...]

    def path_of(self, key: str) -> str:
        """A file as identities and reports name it: a URL without credentials and options."""
        return f"{self.location.partition(':')[0]}://{key}"


def list_remote(location: str, where: str, suffixes: tuple[str, ...]) -> RemoteFiles:
    """The files of a URL of a file, folder or glob, by the rules of those on disk (`list_local`).

    Raises:
        SourceError: none is there, the folder is of a table format, or the store cannot be reached.
    """
    found, listed = _tried(location, where, lambda: _found(location, suffixes))
    if found.files:
        inside = marked_folder(key.removeprefix(f"{found.root}/") for key in listed)
        if inside is not None:
            folder, kind = inside
            raise refusal(kind, found.path_of("/".join(filter(None, (found.root, folder)))), where)
        above = _tried(location, where, lambda: _format_above(found))
        if above is not None:
            raise refusal(above[1], found.path_of(above[0]), where)
        return found
    names = [key.removeprefix(f"{found.root}/").split("/") for key in listed]
    hidden = [parts[-1] for parts in names if any(map(is_hidden, parts))]
    others = [parts[-1] for parts in names if not any(map(is_hidden, parts))]
    there = f": {none_there(found.path_of(found.root), others, hidden, suffixes)}" if names else ""
    raise SourceError(f"{where}: no file at {shown_location(location)}{there}")


def _found(location: str, suffixes: tuple[str, ...]) -> tuple[RemoteFiles, list[str]]:
    """The files of a URL, and the keys of all that is in the folder which it names."""
    # what only object stores need: it takes pandas along where that is installed, half a second
    import pyarrow.fs as fs

    url = _URL.fullmatch(location)
    if url is None:
        raise ValueError("a URL of an object store is s3://bucket/key")
    scheme = {"gcs": "gs"}.get(url["scheme"].casefold(), url["scheme"].casefold())
    filesystem, bucket = fs.FileSystem.from_uri(f"{scheme}://{url['bucket']}{url['options'] or ''}")
    key = url["key"].strip("/")
    found = _at(location, filesystem, bucket, key, suffixes)
    if not found[0].files and unquote(key) != key:
        found = _at(location, filesystem, bucket, unquote(key), suffixes)
    return found


def _at(
    location: str, filesystem: fs.FileSystem, bucket: str, key: str, suffixes: tuple[str, ...]
) -> tuple[RemoteFiles, list[str]]:
    import pyarrow.fs as fs

    root = bucket.rstrip("/")
    pattern: tuple[str, ...] = ()
    parts = tuple(part for part in key.split("/") if part)
    for i, part in enumerate(parts):
        if is_wild(part) and filesystem.get_file_info(f"{root}/{part}").type == fs.FileType.NotFound:
            pattern = parts[i:]
            break
        root = f"{root}/{part}"
    there = filesystem.get_file_info(root)
    if there.type == fs.FileType.File:
        return RemoteFiles(location, filesystem, root, (there,)), []
    if there.type == fs.FileType.NotFound:
        return RemoteFiles(location, filesystem, root, ()), []
    every = [f for f in filesystem.get_file_info(fs.FileSelector(root, recursive=True)) if f.type == fs.FileType.File]
    files = [file for file in every if _is_wanted(file.path.removeprefix(f"{root}/").split("/"), pattern, suffixes)]
    ordered = tuple(sorted(files, key=lambda file: file.path))
    return RemoteFiles(location, filesystem, root, ordered), [file.path for file in every]


def _is_wanted(names: Sequence[str], pattern: Sequence[str], suffixes: tuple[str, ...]) -> bool:
    """Whether a file below a folder is one of those that a pattern below it matches, or of the folder's own."""
    if not pattern:
        return names[-1].casefold().endswith(suffixes) and not any(map(is_hidden, names))
    if pattern[-1] == "**" and not names[-1].casefold().endswith(suffixes):
        return False
    if path_matches(names, pattern):
        return True
    # a folder that is called like a file has its own files, as Spark writes them
    return any(
        names[i - 1].casefold().endswith(suffixes)
        and path_matches(names[:i], pattern)
        and _is_wanted(names[i:], (), suffixes)
        for i in range(1, len(names))
    )


def _format_above(found: RemoteFiles) -> tuple[str, str] | None:
    """The first folder above that is of a table format, and the format; what may not be looked at is none."""
    import pyarrow.fs as fs

    folders = found.root.split("/")
    above = ["/".join(folders[:i]) for i in range(1, len(folders))]

    def is_marked(place: tuple[str, str]) -> bool:
        folder, mark = place
        try:
            if MARKS[mark] != "Iceberg":
                return bool(found.filesystem.get_file_info(f"{folder}/{mark}").type == fs.FileType.Directory)
            inside = found.filesystem.get_file_info(fs.FileSelector(f"{folder}/{mark}", allow_not_found=True))
        except OSError:
            return False
        return any(file.path.endswith(ICEBERG_END) for file in inside)

    places = [(folder, mark) for folder in above for mark in MARKS]
    marked = _each(found, places, is_marked, "")
    return next(((folder, MARKS[mark]) for (folder, mark), yes in zip(places, marked, strict=True) if yes), None)


def remote_identities(found: RemoteFiles, where: str) -> list[FileIdentity]:
    """What identifies the content of files, by their ETags; one that is gone by now is left out.

    Raises:
        SourceError: the store cannot be reached.
    """

    def identity(file: fs.FileInfo) -> FileIdentity | None:
        try:
            with found.filesystem.open_input_file(file.path) as opened:
                size, metadata = opened.size(), opened.metadata() or {}
        except FileNotFoundError:
            return None
        etags = [value for name, value in metadata.items() if _text(name).casefold() == "etag"]
        etag = _text(etags[0]) if etags else None
        return FileIdentity(found.path_of(file.path), size, file.mtime_ns or 0, etag=etag or None)

    return [file for file in _each(found, found.files, identity, where) if file is not None]


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


@dataclass(frozen=True)
class RemoteRows:
    """The rows of a source in an object store.

    Attributes:
        dataset: them, with the columns of all files and those of their folders.
        lacking: column → which files lack it.
        paths: the files, as errors name them.
        schemas: of each its own columns.
        names: of each its columns and those of its folders.
    """

    dataset: ds.Dataset
    lacking: Mapping[str, str]
    paths: Sequence[str]
    schemas: Sequence[pa.Schema]
    names: Sequence[Sequence[str]]


def remote_rows(found: RemoteFiles, where: str) -> RemoteRows:
    """The files as one dataset with their partitions; every file's footer is read, as on disk.

    Raises:
        SourceError: a file that cannot be read.
    """
    import pyarrow.dataset as ds

    paths = [file.path for file in found.files]
    form = ds.ParquetFileFormat()
    fragments = [form.make_fragment(path, found.filesystem) for path in paths]
    schemas = _each(found, fragments, lambda fragment: fragment.physical_schema.remove_metadata(), where)
    schema = _united(schemas)
    parts = partitions(paths, found.root, schema.names)
    if parts.types:
        fragments = [
            form.make_fragment(path, found.filesystem, _all_of(parts.types, values))
            for path, values in zip(paths, parts.values, strict=True)
        ]
        schema = pa.schema([*schema, *(pa.field(name, kind) for name, kind in parts.types.items())])
    values = parts.values if parts.types else [{}] * len(paths)
    names = [(*own.names, *given) for own, given in zip(schemas, values, strict=True)]
    shown = [found.path_of(path) for path in paths]
    lack = lacking_names(shown, names, schema.names)
    return RemoteRows(ds.FileSystemDataset(fragments, schema, form, found.filesystem), lack, shown, schemas, names)


def _united(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The columns of all files, of each the type that holds its values in every file, or that DuckDB would make of it.

    What reads a column whose types differ casts it file by file, or refuses it; see `duckdb_mixed`, `duckdb_merged`.
    """
    kinds: dict[str, dict[pa.DataType, None]] = {}
    for schema in schemas:
        for field in schema:
            kinds.setdefault(field.name, {})[field.type] = None
    return pa.schema([(name, _one_type(list(found))) for name, found in kinds.items()])


def _one_type(kinds: Sequence[pa.DataType]) -> pa.DataType:
    if all(pa.types.is_timestamp(kind) or pa.types.is_date(kind) for kind in kinds) and len(kinds) > 1:
        stamps = [kind for kind in kinds if pa.types.is_timestamp(kind)]
        unit = max((kind.unit for kind in stamps), key=UNITS.index, default="s")
        zone = "UTC" if any(kind.tz is not None for kind in stamps) else None
        return pa.timestamp(unit, zone) if stamps else pa.date64()
    try:
        schemas = [pa.schema([("x", kind)]) for kind in kinds]
        one = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return next(filter(pa.types.is_duration, kinds), pa.string())
    if pa.types.is_decimal256(one) and not any(map(pa.types.is_decimal256, kinds)):
        return pa.decimal128(38, min(kind.scale for kind in kinds if pa.types.is_decimal(kind)))
    return one


def _all_of(types: Mapping[str, pa.DataType], values: Mapping[str, str | None]) -> ds.Expression:
    """What holds for every row of a file: its partitions' values."""
    import pyarrow.compute as pc

    holds = pc.scalar(True)
    for name, text in values.items():
        value = pa.scalar(text, pa.string()).cast(types[name])
        holds = holds & (pc.field(name).is_null() if text is None else pc.field(name) == pc.scalar(value))
    return holds


def some_of(whole: ds.Dataset, keys: Iterable[str], schema: pa.Schema | None = None) -> ds.Dataset:
    """The rows of some of a dataset's files, with the columns of all, or those of a schema."""
    import pyarrow.dataset as ds

    wanted = set(keys)
    fragments = [fragment for fragment in whole.get_fragments() if fragment.path in wanted]
    return ds.FileSystemDataset(fragments, schema or whole.schema, whole.format, whole.filesystem)


def rows_of(found: RemoteFiles, some: ds.Dataset, where: str) -> dict[str, int]:
    """How many rows each file of a dataset has, by its path."""
    fragments = list(some.get_fragments())
    counts = _each(found, fragments, lambda fragment: int(fragment.count_rows()), where)
    return {found.path_of(fragment.path): count for fragment, count in zip(fragments, counts, strict=True)}


def read_all(found: RemoteFiles, batches: Iterable[T], where: str) -> Iterator[T]:
    """What is read of the files, batch by batch.

    Raises:
        SourceError: a file that cannot be read.
    """
    some = iter(batches)
    while (batch := _tried(found.location, where, lambda: next(some, None))) is not None:
        yield batch


def _each(found: RemoteFiles, items: Sequence[Any], ask: Callable[[Any], T], where: str) -> list[T]:
    """The answer about each file, several asked for at a time."""

    def all_of_them() -> list[T]:
        with ThreadPoolExecutor(_AT_ONCE, "headwater-files") as pool:
            try:
                return list(pool.map(ask, items))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    return _tried(found.location, where, all_of_them)


def _tried(location: str, where: str, job: Callable[[], T]) -> T:
    try:
        return job()
    except (pa.ArrowException, OSError, ValueError) as bad:
        if shown_location(location) == location:
            raise SourceError(f"{where}: cannot read {location}: {bad}") from bad
    # what PyArrow says may hold the credentials, so that it is not among the error's causes either
    raise SourceError(f"{where}: cannot read {shown_location(location)}")
