"""What the sources of views are at a moment, as a manifest says it, and how two such moments differ."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.compute.context import StoreContext
from headwater.compute.training_sets.report import InputChangeKind
from headwater.definitions.source import Source
from headwater.definitions.sources import PushSource, SQLSource, TableSource
from headwater.definitions.transforms import TransformSource
from headwater.definitions.view_tables import ViewTable
from headwater.digests import blake2b
from headwater.offline.files.locations import is_remote
from headwater.offline.training_sets.manifest import SavedFile, SavedSource
from headwater.offline.training_sets.values_digest import ValuesDigest
from headwater.planning.files import FileIdentity
from headwater.planning.tables import as_table

COMPUTED = (SQLSource, TransformSource)
"""Sources whose rows are computed from those of others, their `tables`."""
_TAIL = 8
_MAGIC = b"PAR1"


def source_state(context: StoreContext, source: Source, known: SavedSource | None = None) -> SavedSource | None:
    """What a source is now; None of one that has only rows of the offline log.

    Args:
        context: the store's parts and settings.
        source: the source with its data.
        known: what it was before: files whose size and time are the same are not read again.

    Raises:
        SourceError: its files cannot be listed.
    """
    if isinstance(source, PushSource):
        return None
    where = source.shown_location if source.location else ""
    if isinstance(source, TableSource):
        table = as_table(source.table, "table source")
        digest = ValuesDigest(table.schema.remove_metadata())
        for batch in table.combine_chunks().to_batches():
            digest.add(batch)
        return SavedSource(source.kind, where, digest=digest.hexdigest(), rows=table.num_rows)
    listed = _listed(context, source)
    if listed is None:
        return SavedSource(source.kind, where)
    before = {file.path: file for file in (known.files or () if known is not None else ())}
    return SavedSource(
        source.kind, where, tuple(_saved(context.settings.folder, file, before.get(file.path)) for file in listed)
    )


def _listed(context: StoreContext, source: Source) -> list[FileIdentity] | None:
    """The files of a source; of a query those of its tables, as far as these are of files."""
    listed = context.engine.list_files(source)
    if listed is not None or not isinstance(source, COMPUTED):
        return None if listed is None else list(listed)
    found: dict[str, FileIdentity] = {}
    for table in source.tables.values():
        if isinstance(table, (TableSource, ViewTable)):
            continue
        found |= {file.path: file for file in _listed(context, table) or ()}
    return list(found.values()) or None


def _saved(folder: Path, file: FileIdentity, before: SavedFile | None) -> SavedFile:
    same = before is not None and (before.size, before.modified_ns) == (file.size, file.modified_ns)
    if before is not None and same and before.etag == file.etag and before.digest is not None:
        return before
    rows, digest = (None, None) if is_remote(file.path) else _content(folder / file.path)
    return SavedFile(file.path, file.size, file.modified_ns, file.etag, rows, digest)


def _content(path: Path) -> tuple[int | None, str | None]:
    """Rows, where a footer tells them, and the digest of a local file; neither of one that is gone by now."""
    try:
        with path.open("rb") as file:
            footer = _footer(file)
            if footer is not None:
                file.seek(0)
                return pq.read_metadata(file).num_rows, blake2b(footer, digest_size=16).hexdigest()
            file.seek(0)
            return None, hashlib.file_digest(file, lambda: blake2b(digest_size=16)).hexdigest()
    except (OSError, pa.ArrowException):
        return None, None


def _footer(file: object) -> bytes | None:
    """The footer of a Parquet file, which holds the place, size and range of every part; None of other files."""
    read: Callable[[int], bytes] = file.read  # type: ignore[attr-defined]
    seek: Callable[[int, int], int] = file.seek  # type: ignore[attr-defined]
    size = seek(0, 2)
    if size < 12:
        return None
    seek(size - _TAIL, 0)
    tail = read(_TAIL)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or length + _TAIL > size:
        return None
    seek(size - _TAIL - length, 0)
    return read(length)


def source_changes(before: SavedSource, now: SavedSource) -> Iterator[tuple[InputChangeKind, str]]:
    """What of a source is other than it was: the kind of the change, and what somebody should know."""
    if before.kind != now.kind:
        yield InputChangeKind.DEFINITION, f"the source was a {before.kind} source, it is a {now.kind} source"
    if before.digest is not None and now.digest is not None and before.digest != now.digest:
        yield _of_rows(before.rows, now.rows), f"the table was changed ({_counts(before.rows, now.rows)})"
    if before.files is not None and now.files is not None:
        yield from _file_changes(before.files, now.files)


def _file_changes(before: Sequence[SavedFile], now: Sequence[SavedFile]) -> Iterator[tuple[InputChangeKind, str]]:
    there = {file.path: file for file in now}
    gone: list[SavedFile] = []
    new = dict(there)
    for file in before:
        found = there.get(file.path)
        if found is None:
            gone.append(file)
            continue
        new.pop(file.path)
        if not _same_content(file, found):
            kind = _of_rows(file.rows, found.rows)
            yield kind, f"{file.path}: {_WORDS[kind]} ({_counts(file.rows, found.rows, file.size, found.size)})"
    # what is under another path, on another machine say, is the same file where its content is
    contents = Counter(_content_of(file) for file in new.values())
    moved: Counter[object] = Counter()
    missing: list[SavedFile] = []
    for file in gone:
        content = _content_of(file)
        if content is not None and contents[content] > moved[content]:
            moved[content] += 1
        else:
            missing.append(file)
    added = []
    for file in new.values():
        content = _content_of(file)
        if content is not None and moved[content]:
            moved[content] -= 1
        else:
            added.append(file)
    by_name = {Path(file.path).name: file for file in added}
    for file in missing:
        found = by_name.get(Path(file.path).name) if len(by_name) == len(added) else None
        if found is None and len(missing) == len(added) == 1:
            found = added[0]
        if found is None:
            yield InputChangeKind.FILE_GONE, f"{file.path} is gone"
            continue
        added.remove(found)
        by_name = {Path(other.path).name: other for other in added}
        kind = _of_rows(file.rows, found.rows)
        counts = _counts(file.rows, found.rows, file.size, found.size)
        yield kind, f"{file.path}, now {found.path}: {_WORDS[kind]} ({counts})"
    for file in added:
        yield (
            InputChangeKind.FILE_ADDED,
            f"{file.path} was added" + (f" ({file.rows:,} rows)" if file.rows is not None else ""),
        )


def _same_content(one: SavedFile, other: SavedFile) -> bool:
    if one.digest is not None and other.digest is not None:
        return one.digest == other.digest and one.size == other.size
    if one.etag is not None or other.etag is not None:
        return one.etag == other.etag and one.size == other.size
    return (one.size, one.modified_ns) == (other.size, other.modified_ns)


def _content_of(file: SavedFile) -> object:
    if file.digest is not None:
        return file.digest, file.size
    return None if file.etag is None else (file.etag, file.size)


def _of_rows(before: int | None, now: int | None) -> InputChangeKind:
    if before is not None and now is not None and now > before:
        return InputChangeKind.ROWS_ADDED
    return InputChangeKind.FILE_REPLACED


_WORDS = {InputChangeKind.ROWS_ADDED: "has more rows", InputChangeKind.FILE_REPLACED: "has other content"}


def _counts(before: int | None, now: int | None, old: int | None = None, new: int | None = None) -> str:
    if before is not None and now is not None:
        return f"{before:,} rows, now {now:,}"
    return f"{old:,} bytes, now {new:,}" if old is not None and new is not None else "its size is not known"
