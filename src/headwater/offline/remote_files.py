"""Parquet files of a source in an object store: which there are, what identifies each, all of them as one dataset."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from headwater.errors import SourceError
from headwater.planning.files import FileIdentity
from headwater.planning.partitions import partition_names, partitions
from headwater.urls import shown_location

if TYPE_CHECKING:
    import pyarrow.dataset as ds
    import pyarrow.fs as fs

T = TypeVar("T")

_REMOTE = re.compile(r"^(s3|gs|gcs|abfs|az)://")
_AT_ONCE = 16
"""How many files are asked about at the same time: each answer takes some tens of milliseconds."""


def is_remote(location: str) -> bool:
    """Whether a source's path is in an object store."""
    return _REMOTE.match(location) is not None


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


def list_remote(location: str, where: str) -> RemoteFiles:
    """The files of a URL of a file, folder or glob (`*`, `**`); what begins with `_` or `.` below its root is left out.

    Raises:
        SourceError: none is there, or the store cannot be reached.
    """
    found = _tried(location, where, lambda: _found(location))
    if not found.files:
        raise SourceError(f"{where}: no file at {shown_location(location)}")
    return found


def _found(location: str) -> RemoteFiles:
    # what only object stores need: it takes pandas along where that is installed, half a second
    import pyarrow.fs as fs

    filesystem, path = fs.FileSystem.from_uri(re.sub(r"^gcs://", "gs://", location))
    path = path.rstrip("/")
    pattern = None
    if "*" in location.partition("?")[0]:
        pattern, path = _pattern(path), "/".join(path.partition("*")[0].split("/")[:-1])
    files = [f for f in _below(filesystem, path) if pattern is None or pattern.fullmatch(f.path)]
    return RemoteFiles(location, filesystem, path, tuple(sorted(files, key=lambda file: file.path)))


def _below(filesystem: fs.FileSystem, path: str) -> list[fs.FileInfo]:
    import pyarrow.fs as fs

    there = filesystem.get_file_info(path)
    if there.type == fs.FileType.File:
        return [there]
    if there.type == fs.FileType.NotFound:
        return []
    found = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
    return [file for file in found if file.type == fs.FileType.File and not _is_hidden(file.path, path)]


def _is_hidden(key: str, root: str) -> bool:
    return any(part.startswith(("_", ".")) for part in key.removeprefix(root).strip("/").split("/"))


def _pattern(path: str) -> re.Pattern[str]:
    """A glob of a whole key: `*` within a folder, `**` any folders."""
    parts = []
    for part in path.split("/"):
        within = "[^/]*".join(re.escape(piece) for piece in part.split("*"))
        parts.append("(?:[^/]+/)*" if part == "**" else f"{within}/")
    return re.compile("".join(parts).removesuffix("/"))


def remote_identities(found: RemoteFiles, where: str) -> list[FileIdentity]:
    """What identifies the content of files, by their ETags; one that is gone by now is left out.

    Raises:
        SourceError: the store cannot be reached.
    """

    def identity(file: fs.FileInfo) -> FileIdentity | None:
        try:
            with found.filesystem.open_input_file(file.path) as opened:
                size, told = opened.size(), opened.metadata() or {}
        except FileNotFoundError:
            return None
        etags = [value for name, value in told.items() if _text(name).casefold() == "etag"]
        etag = _text(etags[0]) if etags else None
        return FileIdentity(found.path_of(file.path), size, file.mtime_ns or 0, etag=etag or None)

    return [file for file in _each(found, found.files, identity, where) if file is not None]


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def remote_dataset(found: RemoteFiles, where: str) -> ds.Dataset:
    """The files as one dataset with their partitions; footers are read only where there may be any.

    Raises:
        SourceError: a file that cannot be read.
    """
    return _tried(found.location, where, lambda: _dataset(found))


def _dataset(found: RemoteFiles) -> ds.Dataset:
    import pyarrow.dataset as ds

    paths = [file.path for file in found.files]
    whole = ds.dataset(paths, filesystem=found.filesystem, format="parquet", partitioning=None)
    if not partition_names(whole.files, found.root):
        return whole
    columns = {name for fragment in whole.get_fragments() for name in fragment.physical_schema.names}
    parts = partitions(whole.files, found.root, columns)
    fragments = [
        whole.format.make_fragment(file, found.filesystem, _all_of(parts.types, values))
        for file, values in zip(whole.files, parts.values, strict=True)
    ]
    schema = pa.schema([*whole.schema, *(pa.field(name, kind) for name, kind in parts.types.items())])
    return ds.FileSystemDataset(fragments, schema, whole.format, found.filesystem)


def _all_of(types: Mapping[str, pa.DataType], values: Mapping[str, str | None]) -> ds.Expression:
    """What holds for every row of a file: its partitions' values."""
    import pyarrow.compute as pc

    holds = pc.scalar(True)
    for name, text in values.items():
        value = pa.scalar(text, pa.string()).cast(types[name])
        holds = holds & (pc.field(name).is_null() if text is None else pc.field(name) == pc.scalar(value))
    return holds


def some_of(whole: ds.Dataset, keys: Iterable[str]) -> ds.Dataset:
    """The rows of some of a dataset's files, with the columns of all."""
    import pyarrow.dataset as ds

    wanted = set(keys)
    fragments = [fragment for fragment in whole.get_fragments() if fragment.path in wanted]
    return ds.FileSystemDataset(fragments, whole.schema, whole.format, whole.filesystem)


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
