"""Where indexes are kept: in one folder, each made whole or not at all, the ones unused longest removed for room.

The name of one has a digest of its source, of that source's files as they were, and of all that makes its rows: once
the files are others, those of before are removed. Where none can be made, or it would be larger than all may be, a file
with the end `.refused` says so, that it is not tried again at each call.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from headwater.errors import ConfigError, StoreError
from headwater.offline.index.file import IndexDamaged, IndexReader
from headwater.offline.index.sorting import Unsorted, Unsuitable
from headwater.offline.index.writing import IndexWriter
from headwater.scratch import locked_folder, remove_unfinished, whole_file
from headwater.state_files import make_folder

_ROW_BYTES = 32
"""What a row of a source takes in an index, at most (a text key aside)."""
_DIGEST = 24
_REFUSED = ".refused"
_NAMES = re.compile(rf"([0-9a-f]{{{_DIGEST}}}-){{2}}[0-9a-f]{{{_DIGEST}}}({re.escape(_REFUSED)})?")
_PATIENCE = 30.0
"""Seconds to wait for others that make room."""
_UNITS = {"K": 1, "M": 2, "G": 3, "T": 4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT])(i?)B", re.IGNORECASE)


def without_indexes(engines: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The settings of engines, of which the embedded one keeps no indexes."""
    return {**engines, "duckdb": {**engines.get("duckdb", {}), "index_size": "0"}}


def size_of(text: str) -> int:
    """An amount such as `2GB` or `0` in bytes.

    Raises:
        ConfigError: it is none.
    """
    if text == "0":
        return 0
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"index_size = {text!r}: must be an amount such as '500MB' or '2GB', or '0' for no indexes")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** _UNITS[found[2].upper()])


@dataclass(frozen=True)
class IndexRules:
    """When indexes are made, and how much they may take.

    Attributes:
        folder: where they are kept.
        size: the most that all of them take, bytes.
        least: sources of fewer rows have none: they are read in less time than it takes to look.
        small: of sources of up to so many rows one is made for any spine: it costs a fraction of a second.
        share: else a spine of fewer than one row for so many rows of the source makes none: reading costs less.
        reach: nor does one whose times reach less than this part of the source's.
        settled_ns: a file that was changed less than this before it is read may change again without its times showing
            it: no index is made of it.
    """

    folder: Path
    size: int
    least: int = 50_000
    small: int = 200_000
    share: int = 50
    reach: float = 0.5
    settled_ns: int = 2_000_000_000

    def worth(self, rows: int, spine: int, reached: float) -> bool:
        """Whether an index of a source with so many rows is made for a spine of so many that reaches a part of it."""
        fits = self.least <= rows and rows * _ROW_BYTES <= self.size
        return fits and (rows <= self.small or (spine * self.share >= rows and reached >= self.reach))


class RowIndexes(Protocol):
    """The indexes of one source's rows: as known, and as if known."""

    def find(self, *, as_known: bool) -> IndexReader | None:
        """The index that is kept; None where there is none, or it is damaged."""
        ...

    def worth(self, rows: int, spine: int, reached: float) -> bool:
        """Whether one is made for a spine of so many rows, whose times reach a part of the source's."""
        ...

    def make(self, rows: Unsorted) -> IndexReader | None:
        """Make one; None where that fails, or the files changed meanwhile."""
        ...

    def drop(self, *, as_known: bool) -> None:
        """Remove a damaged one."""
        ...


@dataclass(frozen=True)
class KeptIndexes:
    """`RowIndexes` of the files of a source.

    Attributes:
        rules: where and when.
        source: what names the source.
        what: what makes the rows, files aside.
        files: what identifies the files as they are now, and when the last one was changed (nanoseconds).
        before: what it gave before the source was opened.
    """

    rules: IndexRules
    source: str
    what: str
    files: Callable[[], tuple[str, int]]
    before: tuple[str, int]

    def find(self, *, as_known: bool) -> IndexReader | None:
        about = self._about(as_known)
        path = self._path(about)
        if not path.is_file():
            return None
        try:
            reader = IndexReader(path, about)
        except IndexDamaged:
            self.drop(as_known=as_known)
            return None
        with suppress(OSError):
            os.utime(path)
        return reader

    def worth(self, rows: int, spine: int, reached: float) -> bool:
        return self.rules.worth(rows, spine, reached)

    def make(self, rows: Unsorted) -> IndexReader | None:
        about = self._about(rows.as_known)
        path = self._path(about)
        if self._is_refused(path):
            return None
        try:
            make_folder(self.rules.folder)
            # the lock is let go after the file has its name: what others count has it
            with ExitStack() as lock, whole_file(path) as partial:
                # by the clock of the file system
                if self.before[1] > partial.stat().st_mtime_ns - self.rules.settled_ns:
                    raise Unsuitable("the files are too young")
                self._write(partial, path, about, rows)
                if self.files() != self.before:
                    raise Unsuitable("the files changed meanwhile")
                if not lock.enter_context(locked_folder(self.rules.folder, _PATIENCE)):
                    raise Unsuitable(f"other processes held the folder for {_PATIENCE:g} s")
                self._make_room(partial.stat().st_size, path.name)
                reader = IndexReader(partial, about)
        except (OSError, Unsuitable, IndexDamaged, StoreError):
            return None
        return reader

    def _write(self, partial: Path, path: Path, about: str, rows: Unsorted) -> None:
        """Write an index, or note that there can be none.

        Raises:
            Unsuitable: there can be none.
        """
        try:
            IndexWriter(partial, about, self.rules.size).write(rows)
        except Unsuitable:
            if self.files() == self.before:
                with whole_file(_refusal(path)) as note:
                    note.write_text(str(self.rules.size))
            raise

    def _is_refused(self, path: Path) -> bool:
        """Whether none could be made within as many bytes as there are now."""
        try:
            return int(_refusal(path).read_text()) >= self.rules.size
        except (OSError, ValueError):
            return False

    def _make_room(self, wanted: int, name: str) -> None:
        """Remove the indexes of what the source's files were before, and those unused longest until there is room.

        Raises:
            Unsuitable: there is not enough.
        """
        remove_unfinished(self.rules.folder)
        source, files = name.split("-")[:2]
        left, taken = [], 0
        for used, path, size in kept_in(self.rules.folder):
            of = path.name.split("-")
            if path.name == name:
                continue  # it is replaced
            if of[0] == source and of[1] != files and _remove(path):
                continue
            left.append((used, path, size))
            taken += size
        for _, path, size in sorted(left):
            if taken + wanted <= self.rules.size:
                return
            taken -= size if _remove(path) else 0
        if taken + wanted > self.rules.size:
            raise Unsuitable("others take all that indexes may take")

    def drop(self, *, as_known: bool) -> None:
        _remove(self._path(self._about(as_known)))

    def _about(self, as_known: bool) -> str:
        return f"{'known' if as_known else 'event'}\n{self.what}\n{self.before[0]}"

    def _path(self, about: str) -> Path:
        return self.rules.folder / "-".join(map(_digest, (self.source, self.before[0], about)))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=_DIGEST // 2).hexdigest()


def _refusal(path: Path) -> Path:
    return path.with_suffix(_REFUSED)


def kept_in(folder: Path) -> list[tuple[int, Path, int]]:
    """The indexes in a folder: when each was last used (nanoseconds), and its bytes; not what goes meanwhile."""
    result = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _NAMES.fullmatch(entry.name):
                with suppress(OSError):
                    there = entry.stat(follow_symlinks=False)
                    result.append((there.st_mtime_ns, Path(entry.path), there.st_size))
    return result


def remove_all(folder: Path) -> None:
    """Remove every index in a folder."""
    for _, path, _ in kept_in(folder):
        _remove(path)


def _remove(path: Path) -> bool:
    """Remove an index, and whether it is gone; who reads it at the time reads on."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
        return True
    return False
