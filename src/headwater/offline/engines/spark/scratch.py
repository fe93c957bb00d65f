"""The folder through which rows go to and from Spark: on this machine, or in a store that all of it reaches."""

from __future__ import annotations

import itertools
import secrets
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
from pyarrow import fs

from headwater.errors import ConfigError, StoreError
from headwater.offline.result_folder import files_at, is_url, local_target
from headwater.urls import shown_location

PATTERNS = frozenset("*?[]{}\\%#")
"""What one of the readers or writers of a path takes for a wildcard, an escape or the end of it."""
SHARED = (
    'name a folder or URL that its executors and this process read and write, such as scratch = "s3://bucket/headwater"'
)
"""What to do where the folder is not one that all of Spark reaches."""


class Scratch:
    """A folder of one engine, gone with it.

    Args:
        location: a URL or an absolute path; None: a folder of this machine's.
        local: that folder's parent.

    Attributes:
        files: where the folder is.
        is_local: whether it is on this machine.
    """

    def __init__(self, location: str | None, local: Path) -> None:
        self._names = itertools.count()
        name = f"headwater-{secrets.token_hex(8)}"
        given = str(local) if location is None else location
        self.is_local = not is_url(given)
        try:
            if self.is_local:
                path = local_target(given)
                if set(str(path)) & PATTERNS:
                    raise ValueError(f"the path must not contain any of {' '.join(sorted(PATTERNS))}")
                self.files, self._root = fs.LocalFileSystem(), str(path / name)
                self._url = f"file://{path / name}"
            else:
                self.files, base = files_at(given)
                self._root, self._url = f"{base.rstrip('/')}/{name}", f"{given.rstrip('/')}/{name}"
        except (ValueError, OSError, NotImplementedError) as bad:
            raise ConfigError(f"[offline.spark] scratch = {shown_location(given)!r}: {bad}") from bad
        self._shown = shown_location(self._url)
        try:
            self.files.create_dir(self._root, recursive=True)
        except OSError as bad:
            raise StoreError(f"[offline.spark] scratch: cannot make {self._shown}: {bad}") from bad

    def new(self) -> ScratchFolder:
        """A folder that does not exist yet."""
        name = f"t{next(self._names)}"
        return ScratchFolder(self, f"{self._root}/{name}", f"{self._url}/{name}")

    def not_shared(self, what: str = "") -> ConfigError:
        """The error where Spark and this process do not have the same files here.

        Args:
            what: is missing, where that is known.
        """
        lacks = f" ({what})" if what else ""
        return ConfigError(
            f"[offline.spark] scratch: Spark and this process do not see the same files in {self._shown}{lacks}, so "
            "Spark or some of its executors are not on this machine (an address such as localhost may be a tunnel, or "
            f"a container's); {SHARED}"
        )

    def close(self) -> None:
        """Remove all of it."""
        with suppress(OSError):
            self.files.delete_dir(self._root)


class ScratchFolder:
    """The files of one table.

    Attributes:
        path: the folder, for `scratch.files`.
        url: the same for Spark.
    """

    def __init__(self, scratch: Scratch, path: str, url: str) -> None:
        self.scratch, self.path, self.url = scratch, path, url

    def parts(self) -> list[str]:
        """Its data files, in order of name."""
        found = self.scratch.files.get_file_info(fs.FileSelector(self.path, recursive=True, allow_not_found=True))
        names = [f.path for f in found if f.type == fs.FileType.File and f.base_name[0] not in "_."]
        return sorted(name for name in names if name.endswith(".parquet"))

    def rows(self) -> int:
        """How many rows its data files have, by their footers."""
        rows = 0
        for part in self.parts():
            with self.scratch.files.open_input_file(part) as opened:
                rows += pq.read_metadata(opened).num_rows
        return rows

    def remove(self) -> None:
        """Remove them."""
        with suppress(OSError):
            self.scratch.files.delete_dir(self.path)
