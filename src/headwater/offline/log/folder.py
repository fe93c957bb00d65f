"""The folder of an offline log's compacted files: its identity, and files, written whole, checked and removed."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.digests import blake2b
from headwater.errors import FormatError, LogDamaged, LogMismatch, StorageFull, StoreError, StoreReadOnly, UsageError
from headwater.offline.base import ARRIVAL, POSITION
from headwater.state_files import make_folder, opener

FORMAT = 1
"""The version of the files and of `log.json` beside them."""

SET_ASIDE = "restored-"
"""How names begin of files that a restored registry does not know: not part of the log, kept for whoever needs them."""
GIVEN_UP = "forgotten-"
"""How names begin of damaged files that somebody let the log go on without."""

_LAST_POSITION = 2**55 - 1
_IDENTITY = "log.json"
_IDENTITY_BYTES = 65_536
_TEMPORARY = ".tmp"
_CHECKSUM_BYTES = 16
_READ_BYTES = 1 << 20
_CHANGED = "is damaged: its checksum is not that of what was written"


@dataclass(frozen=True)
class StoredFile:
    """A file as the log's database knows it.

    Attributes:
        name: in the folder.
        size: bytes; None: an earlier release wrote it.
        checksum: of its bytes; None likewise.
    """

    name: str
    size: int | None = None
    checksum: bytes | None = None


@dataclass(frozen=True)
class FoundFile:
    """A file of the folder whose name headwater gave.

    Attributes:
        name: in the folder.
        view: whose rows it holds.
        first, last: the least and the greatest position in it.
        prefix: `SET_ASIDE`, `GIVEN_UP`, or empty.
        temporary: whether its writer has not finished it.
    """

    name: str
    view: str
    first: int
    last: int
    prefix: str = ""
    temporary: bool = False


class FileUnreachable(LogDamaged):
    """A file that is missing or that the disk does not give, now: what it holds is not known."""


def checksum(content: bytes | pa.Buffer | memoryview) -> bytes:
    """What tells whether the bytes of a file are still those that were written."""
    return blake2b(content, digest_size=_CHECKSUM_BYTES).digest()


class LogFolder:
    """The folder that holds one log's Parquet files."""

    def __init__(self, path: Path, log_id: str) -> None:
        self.path = path
        self._checked: tuple[int, ...] | None = None
        self._log_id = log_id
        self._prefix = f"log-{log_id[:8]}-"
        self._name = re.compile(
            rf"({SET_ASIDE}|{GIVEN_UP})?{re.escape(self._prefix)}(.+)-(\d{{1,17}})-(\d{{1,17}})-[0-9a-f]{{8}}\.parquet"
            rf"({re.escape(_TEMPORARY)})?",
            re.ASCII | re.DOTALL,
        )

    # its identity

    def check(self, mark: str | None) -> str | None:
        """Check that the folder is this log's own.

        Args:
            mark: the one that the registry knows; None: no folder was marked yet.

        Returns:
            The mark that is in it; None: it has none yet.

        Raises:
            LogMismatch: another log's files are in it, or this log's are in another folder.
            FormatError: a newer headwater wrote it, or it is damaged.
        """
        identity = self._identity()
        log_id, found = identity.get("log_id", self._log_id), identity.get("folder")
        if log_id != self._log_id:
            raise LogMismatch(
                f"{self.path}: the folder belongs to offline log {log_id}, the registry's is {self._log_id}; "
                "point [registry] url and [offline] log at the same log"
            )
        if mark is not None and found != mark:
            named = f"there is no {_IDENTITY} in it" if found is None else f"its {_IDENTITY} belongs to another folder"
            raise LogMismatch(
                f"{self.path}: is not the folder of offline log {self._log_id} ({named}): every host that "
                "writes needs the same one as [offline] log; if it was moved or lost, bring it here, or back from its "
                f"backup, with the {_IDENTITY} in it"
            )
        return found

    def checked(self) -> None:
        """Remember that the folder is this log's own."""
        self._checked = self._state()

    def is_other(self) -> bool:
        """Whether the folder may be another one, or gone, since `checked`; False where it was never checked."""
        return self._checked is not None and self._state() != self._checked

    def _state(self) -> tuple[int, ...]:
        """What the file system says of `log.json`; nothing where there is none, or it cannot be looked at."""
        try:
            there = (self.path / _IDENTITY).stat()
        except OSError:
            return ()
        return there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns

    def _identity(self) -> dict[str, str | None]:
        """What `log.json` says: any of `log_id` and `folder`; nothing where there is none."""
        file = self.path / _IDENTITY
        try:
            with file.open("rb") as opened:
                content = opened.read(_IDENTITY_BYTES)
        except FileNotFoundError:
            return {}
        except OSError as bad:
            raise disk_error(self.path, bad) from bad
        wrong = f"{file}: is damaged, or headwater did not write it"
        try:
            data: Any = json.loads(content)
        except (ValueError, RecursionError) as bad:
            raise FormatError(f"{wrong} (not JSON); restore it from a backup of the folder") from bad
        if not isinstance(data, dict):
            raise FormatError(f"{wrong} (not a JSON object); restore it from a backup of the folder")
        version = data.get("format", FORMAT)
        if not isinstance(version, int) or isinstance(version, bool):
            raise FormatError(f"{wrong} (its format is not a number); restore it from a backup of the folder")
        if version > FORMAT:
            shown = version if version < 10**9 else "of a far later version"
            raise FormatError(f"{file}: format {shown}, this headwater reads up to {FORMAT}: upgrade headwater")
        for name in ("log_id", "folder"):
            value = data.get(name)
            if value is not None and not (isinstance(value, str) and 0 < len(value) <= 64 and value.isprintable()):
                raise FormatError(f"{wrong} (its {name} is not an id); restore it from a backup of the folder")
        return {name: data[name] for name in ("log_id", "folder") if data.get(name) is not None}

    def mark(self) -> str:
        """Make the folder where there is none, and mark it as this log's; the new mark."""
        mark = str(uuid.uuid4())
        try:
            make_folder(self.path)
        except OSError as bad:
            raise disk_error(self.path, bad) from bad
        content = {"format": FORMAT, "log_id": self._log_id, "folder": mark}
        self._publish(self.path / _IDENTITY, json.dumps(content).encode())
        return mark

    def mark_again(self, mark: str | None) -> None:
        """Write a `log.json` that was lost or damaged again.

        Args:
            mark: the one that the registry knows; None: no folder was marked yet.

        Raises:
            UsageError: it is there and whole.
            LogMismatch: it names another log.
        """
        try:
            found = self._identity()
        except FormatError:
            found = {}
        if found.get("log_id", self._log_id) != self._log_id:
            raise LogMismatch(f"{self.path}: the folder belongs to offline log {found['log_id']}")
        if mark is None or found.get("folder") == mark:
            raise UsageError(f"{self.path / _IDENTITY}: is valid, or not needed yet: there is nothing to recreate")
        content = {"format": FORMAT, "log_id": self._log_id, "folder": mark}
        self._publish(self.path / _IDENTITY, json.dumps(content).encode())

    # its files

    def write(self, view: str, table: pa.Table, prefix: str = "") -> StoredFile:
        """Write stamped rows to a new file, safe on the disk before it has its name.

        Args:
            view: the view.
            table: its rows.
            prefix: of the name; empty for a file of the log.

        Raises:
            pa.ArrowException: rows that Parquet cannot hold.
            StorageFull, StoreReadOnly, StoreError: it takes no files.
        """
        first, last = span_of(table)
        span = f"{first}-{last}"
        name = f"{prefix}{self._prefix}{view}-{span}-{uuid.uuid4().hex[:8]}.parquet"
        sink = pa.BufferOutputStream()
        marked = table.replace_schema_metadata({"headwater_log_format": str(FORMAT)})
        # a dictionary of numbers that hardly repeat costs more than the writing
        texts = [f.name for f in table.schema if pa.types.is_string(f.type) or pa.types.is_binary(f.type)]
        pq.write_table(marked, sink, compression="zstd", compression_level=1, use_dictionary=texts)
        content = sink.getvalue()
        self._publish(self.path / name, content)
        return StoredFile(name, content.size, checksum(content))

    def _publish(self, target: Path, content: bytes | pa.Buffer) -> None:
        """Write under another name, make it durable, then give it its name."""
        unnamed = target.with_name(target.name + _TEMPORARY)
        try:
            with open(unnamed, "wb", opener=opener) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unnamed.replace(target)
            self._make_durable()
        except BaseException as bad:
            unnamed.unlink(missing_ok=True)
            if isinstance(bad, OSError):
                raise disk_error(self.path, bad) from bad
            raise

    def _make_durable(self) -> None:
        folder = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def read(self, file: StoredFile) -> pa.Table:
        """The stamped rows of a file, whose bytes are checked.

        Raises:
            FileUnreachable: the file is missing, or the disk does not give it.
            LogDamaged: it is not what was written.
        """
        path = self.path / file.name
        try:
            content = path.read_bytes()
        except OSError as bad:
            raise FileUnreachable(f"{path}: {_said(bad)}") from bad
        wrong = _differs(file, len(content)) or _changed(file, content)
        if wrong:
            raise LogDamaged(f"{path}: {wrong}")
        try:
            table = pq.read_table(pa.BufferReader(content), partitioning=None)
            _check_columns(table.schema)
        except (OSError, ValueError, pa.ArrowException) as bad:
            raise LogDamaged(f"{path}: is damaged ({_first_line(bad)})") from bad
        return table.replace_schema_metadata(None)

    def missing(self, file: StoredFile) -> str | None:
        """What is wrong with a file at first sight (not there, or cut short), in words; None: nothing."""
        try:
            size = (self.path / file.name).stat().st_size
        except OSError as bad:
            return _said(bad)
        return _differs(file, size)

    def damage(self, file: StoredFile) -> str | None:
        """What is wrong with a file, in words; None: its bytes are those that were written. Bounded memory."""
        path, digest, size = self.path / file.name, blake2b(digest_size=_CHECKSUM_BYTES), 0
        try:
            with path.open("rb") as opened:
                while some := opened.read(_READ_BYTES):
                    digest.update(some)
                    size += len(some)
        except OSError as bad:
            return _said(bad)
        wrong = _differs(file, size)
        if wrong:
            return wrong
        if file.checksum is not None:
            return None if digest.digest() == file.checksum else _CHANGED
        return self._undecodable(path)

    @staticmethod
    def _undecodable(path: Path) -> str | None:
        """What is wrong with the content of a file of an earlier release, which has no checksum."""
        try:
            with pq.ParquetFile(path) as opened:
                _check_columns(opened.schema_arrow)
                for batch in opened.iter_batches(batch_size=65_536):
                    batch.validate()
        except (OSError, ValueError, pa.ArrowException) as bad:
            return f"is damaged ({_first_line(bad)})"
        return None

    def found(self) -> Iterator[FoundFile]:
        """The files whose names headwater gave for this log; whatever else is in the folder is left alone."""
        for name in self._names():
            file = self._named(name)
            if file is not None:
                yield file

    def _named(self, name: str) -> FoundFile | None:
        """What headwater says by a name that it gave; None: it gave no such name."""
        match = self._name.fullmatch(name)
        if match is None:
            return None
        prefix, view, first, last, temporary = match.groups()
        if not 0 < int(first) <= int(last) <= _LAST_POSITION:
            return None
        return FoundFile(name, view, int(first), int(last), prefix or "", temporary is not None)

    def foreign(self) -> list[str]:
        """The names of whatever else is in the folder, in order: nothing of it is read or removed."""
        own = (_IDENTITY, _IDENTITY + _TEMPORARY)
        return sorted(name for name in self._names() if name not in own and self._named(name) is None)

    def _names(self) -> list[str]:
        try:
            return [path.name for path in self.path.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as bad:
            raise disk_error(self.path, bad) from bad

    def remove(self, names: Iterable[str]) -> list[str]:
        """Remove files; those that are gone already are removed.

        Returns:
            Those that could not be removed.
        """
        left = []
        for name in names:
            try:
                (self.path / name).unlink(missing_ok=True)
            except OSError:
                left.append(name)
        return left

    def rename(self, file: FoundFile, prefix: str) -> str:
        """Give a file another name, under which it is not part of the log; the name.

        Raises:
            StoreReadOnly, StoreError: the folder does not allow it.
        """
        name = prefix + file.name.removeprefix(file.prefix)
        try:
            (self.path / file.name).rename(self.path / name)
        except OSError as bad:
            raise disk_error(self.path, bad) from bad
        return name


def span_of(table: pa.Table) -> tuple[int, int]:
    """The least and the greatest position of stamped rows: those of one write may be in batches that interleave."""
    return _bounds(table, POSITION)


def arrivals_of(table: pa.Table) -> tuple[int, int]:
    """The least and the greatest arrival of stamped rows, microseconds."""
    return _bounds(table, ARRIVAL)


def _bounds(table: pa.Table, name: str) -> tuple[int, int]:
    numbers = table.column(name).to_numpy()
    return int(numbers.min()), int(numbers.max())


def _check_columns(schema: pa.Schema) -> None:
    for name in (POSITION, ARRIVAL):
        if schema.get_field_index(name) < 0 or schema.field(name).type != pa.int64():
            raise ValueError(f"no column {name} of positions and arrivals")


def _differs(file: StoredFile, size: int) -> str | None:
    if file.size is None or size == file.size:
        return "is empty" if size == 0 else None
    return f"is damaged: it has {size:,} bytes, {file.size:,} were written"


def _changed(file: StoredFile, content: bytes) -> str | None:
    if file.checksum is None or checksum(content) == file.checksum:
        return None
    return _CHANGED


def _said(bad: OSError) -> str:
    return "is missing" if isinstance(bad, FileNotFoundError) else f"cannot be read ({bad.strerror or bad})"


def _first_line(bad: BaseException) -> str:
    return (str(bad).partition("\n")[0] or type(bad).__name__)[:200]


def disk_error(path: Path, bad: OSError) -> StoreError:
    """What the disk said of the folder, in headwater's errors."""
    if bad.errno in (28, 122):
        return StorageFull(f"{path}: no space left for the offline log; all acknowledged writes are kept")
    if bad.errno in (1, 13, 30):
        return StoreReadOnly(
            f"{path}: the offline log's folder is not writable ({bad.strerror}); check its permissions"
        )
    return StoreError(f"{path}: the offline log's folder cannot be used: {bad.strerror or bad}")
