"""The folder of Parquet files that an engine writes a result into: it appears whole, or is not believed."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from headwater.errors import StoreError, UsageError
from headwater.scratch import whole_folder
from headwater.urls import shown_location

SUCCESS = "_SUCCESS"
"""The file, written last, that says that a folder is whole: Spark's own name for it."""


def is_url(location: str) -> bool:
    """Whether a location is in a store of objects or files, not on this machine."""
    return "://" in location and not location.startswith("file://")


def local_target(location: str) -> Path:
    """A location on this machine as a path."""
    return Path(location.removeprefix("file://")).absolute()


def files_at(url: str) -> tuple[fs.FileSystem, str]:
    """The store of a URL, and the path in it; of S3 also by the name that Hadoop has for it.

    Raises:
        ValueError, OSError, NotImplementedError: there is no such store.
    """
    scheme, _, rest = url.partition("://")
    files, path = fs.FileSystem.from_uri(f"s3://{rest}" if scheme in ("s3a", "s3n") else url)
    return files, path


class Claim:
    """The claim of one writer to a folder in a store of objects or files, where nothing can be created exclusively.

    Each writer notes itself beside the folder before it looks who else has: of two that begin at once at least one sees
    the other, and does not begin. So whoever has begun, and whose note is there, is the only one.

    Args:
        files: where the folder is.
        path: of it.
        shown: its location, as messages have it.
    """

    def __init__(self, files: fs.FileSystem, path: str, shown: str) -> None:
        parent, _, name = path.rstrip("/").rpartition("/")
        self._files, self._shown = files, shown
        self._folder = f"{parent}/.{name}.writing" if parent else f"{name}/.writing"
        self._own = f"{self._folder}/{secrets.token_hex(8)}"

    def begin(self) -> None:
        """Note the writer.

        Raises:
            UsageError: there is another one.
        """
        self._note()
        try:
            self._look()
        except BaseException:
            self.end()
            raise

    def _note(self) -> None:
        self._files.create_dir(self._folder, recursive=True)
        with self._files.open_output_stream(self._own):
            pass

    def _look(self) -> None:
        if self._noted() != [self._own]:
            raise UsageError(
                f"cannot write {self._shown}: another result is being written there; wait for it, or name another "
                f"folder (where nothing is, remove the folder {self._folder} that a writer left)"
            )

    def check(self) -> None:
        """Refuse to say that a result is whole beside which another may have begun.

        Raises:
            UsageError: the note was removed.
        """
        if self._own not in self._noted():
            raise UsageError(
                f"cannot write {self._shown}: {self._own} was removed while the result was written, so another one may "
                "have begun there; write it again once no other is being written"
            )

    def _noted(self) -> list[str]:
        found = self._files.get_file_info(fs.FileSelector(self._folder, allow_not_found=True))
        return [each.path for each in found if each.type == fs.FileType.File]

    def end(self) -> None:
        """Remove the note."""
        with suppress(OSError):
            self._files.delete_file(self._own)


class ResultFolder:
    """Where an engine writes the files of one result.

    Args:
        files: where the folder is.
        path: of it, for `files`.
        url: the same for the engine; nothing is there yet.
    """

    def __init__(self, files: fs.FileSystem, path: str, url: str) -> None:
        self.url = url
        self._files, self._path = files, path

    def finish(self, schema: pa.Schema) -> int:
        """Count the rows that were written, and give a folder without any a file that has the columns.

        Args:
            schema: of the result.
        """
        parts = self._parts()
        if not parts:
            self._files.create_dir(self._path, recursive=True)
            with self._files.open_output_stream(f"{self._path}/part-00000.parquet") as sink:
                pq.write_table(schema.empty_table(), sink)
        rows = 0
        for part in parts:
            with self._files.open_input_file(part) as opened:
                rows += pq.read_metadata(opened).num_rows
        return rows

    def mark(self) -> None:
        """Say that it is whole."""
        with self._files.open_output_stream(f"{self._path}/{SUCCESS}"):
            pass

    def empty(self) -> None:
        """Remove what was written."""
        with suppress(OSError):
            self._files.delete_dir(self._path)

    def _parts(self) -> list[str]:
        found = self._files.get_file_info(fs.FileSelector(self._path, recursive=True, allow_not_found=True))
        return sorted(f.path for f in found if f.type == fs.FileType.File and f.base_name.endswith(".parquet"))


@contextmanager
def result_folder(location: str) -> Iterator[ResultFolder]:
    """A folder that takes its place at the end of the block, whole; of a block that fails nothing is left.

    On this machine it is made aside and renamed; an earlier result, a file or a folder of part files, is replaced. In a
    store of objects it is written where it belongs, and whole once `_SUCCESS` is there; nothing is replaced, and of
    several that are written there at once one at most goes on.

    Args:
        location: a path or a URL.

    Raises:
        UsageError: there is something else already.
        StoreError: it cannot be made.
    """
    if not is_url(location):
        target = local_target(location)
        if not target.parent.is_dir():
            raise StoreError(f"cannot write {target}: folder {target.parent} does not exist; create it first")
        _refuse_others(target)
        with whole_folder(target) as partial:
            folder = ResultFolder(fs.LocalFileSystem(), str(partial), f"file://{partial}")
            yield folder
            folder.mark()
        return
    shown = shown_location(location)
    try:
        files, path = files_at(location)
        claim = Claim(files, path, shown)
        claim.begin()
    except UsageError:
        raise
    except (ValueError, OSError, NotImplementedError) as bad:
        raise StoreError(f"cannot write {shown}: {bad}") from bad
    try:
        if files.get_file_info(fs.FileSelector(path, allow_not_found=True)):
            raise UsageError(f"cannot write {shown}: there are files already; remove them, or name another folder")
        folder = ResultFolder(files, path, location)
        try:
            yield folder
            claim.check()
            folder.mark()
        except BaseException:
            folder.empty()
            raise
    finally:
        claim.end()


def _refuse_others(target: Path) -> None:
    """Refuse to replace a folder that is not a result."""
    names = [path.name for path in target.iterdir()] if target.is_dir() else []
    plain = {name.removeprefix(".").removesuffix(".crc") for name in names}
    others = sorted(name for name in plain if name != SUCCESS and not name.endswith(".parquet"))
    if others or (names and SUCCESS not in names):
        what = f"other files ({others[0]})" if others else f"files that are not a result's (no {SUCCESS})"
        raise UsageError(f"cannot write {target}: it is a folder that has {what}; name another, or remove it")
