"""Files of a source on disk: which there are, and what identifies the content of each."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from headwater.digests import blake2b
from headwater.errors import SourceError, nearest
from headwater.offline.files.locations import is_hidden, is_remote, local_path, name_matches, none_there, split_pattern
from headwater.offline.files.table_formats import MARKS, refuse_mark, refuse_within
from headwater.planning.files import FileIdentity
from headwater.urls import shown_location
from headwater.values import Value


class SourceFile(Value, frozen=True):
    """One file of a source.

    Attributes:
        path: as identities and reports name it: relative to the project's folder where the source's own path is.
        location: what is opened.
    """

    path: str
    location: str


def root_of(location: str, folder: Path) -> Path:
    """The path that a location names; of a glob what comes before its first wildcard."""
    path = local_path(location, folder, "source")
    return split_pattern(path, folder)[0]


def list_local(location: str, folder: Path, suffixes: tuple[str, ...], where: str) -> list[SourceFile]:
    """The files of a path, folder or glob, in order of name.

    A path is what has that very name; only where nothing has, it is a glob. Of folders what begins with `_` or `.` is
    left out, links are followed, and a file to which two of them lead is read once.

    Args:
        location: as the source names it.
        folder: the project's folder, to which it may be relative.
        suffixes: how the names of files in a folder end, in lower case.
        where: for errors.

    Raises:
        SourceError: none is there, a folder cannot be listed or is of a table format, or a name is not UTF-8.
    """
    if is_remote(location):
        raise SourceError(
            f"{where}: {shown_location(location)}: in object stores only Parquet is supported; copy the files into "
            "a folder (aws s3 sync, gcloud storage rsync), or write them as Parquet"
        )
    path = local_path(location, folder, where)
    root, pattern = split_pattern(path, folder)
    walk = _Walk(suffixes, where)
    try:
        refuse_within({root, *root.absolute().parents, *Path(os.path.realpath(root)).parents}, where)
        if pattern:
            walk.matching(str(root), pattern)
        elif os.path.isdir(root):  # noqa: PTH112
            walk.below(str(root))
        else:
            walk.add_named(root)
        names = walk.names()
    except OSError as bad:
        raise SourceError(f"{where}: cannot list {bad.filename or path}: {bad.strerror}") from bad
    except UnicodeEncodeError:
        shown = location.encode("utf-8", "backslashreplace").decode()
        raise SourceError(f"{where}: {shown}: the path is not UTF-8") from None
    if not names:
        raise SourceError(f"{where}: no file at {path}{_there(root, pattern, walk, suffixes)}{_project(path, folder)}")
    _check_names(names, where)
    # a source's own path may be absolute, or lead out of the folder
    relative = not Path(location).is_absolute() and path == folder / location
    prefix = os.path.join(folder, "") if relative else ""  # noqa: PTH118 - a Path ends with no slash
    return [SourceFile(name.removeprefix(prefix), name) for name in names]


def _project(path: Path, folder: Path) -> str:
    return "" if os.path.isdir(path) else f"; paths are relative to the project folder {folder}"  # noqa: PTH112


def _there(root: Path, pattern: Sequence[str], walk: _Walk, suffixes: Sequence[str]) -> str:
    """What is there instead of the files of a source."""
    if root.is_dir() and (not pattern or walk.others or walk.hidden):
        return ": " + none_there(str(root), walk.others, walk.hidden, suffixes)
    if pattern and walk.folders:
        some = ", ".join(sorted(walk.folders)[:5])
        inside = f"/*{suffixes[0] if suffixes else ''}"
        return f": it matches only folders ({some}); {inside} or /** at its end matches the files in them"
    if not pattern and root.parent.is_dir():
        return nearest(root.name, os.listdir(root.parent))  # noqa: PTH208
    return ""


class _Walk:
    """The files that are found on the way through folders.

    Attributes:
        others: names of files in folders that end otherwise.
        hidden: names that were left out.
        folders: folders that a whole pattern matches.
    """

    def __init__(self, suffixes: tuple[str, ...], where: str) -> None:
        self._suffixes, self._where = suffixes, where
        self._found: dict[str, tuple[str, bool]] = {}
        self._links = False
        self._seen: set[tuple[str, tuple[str, ...]]] = set()
        self._real: dict[str, str] = {}
        self._later: list[tuple[str, str, tuple[str, ...]]] = []
        self.others: list[str] = []
        self.hidden: list[str] = []
        self.folders: list[str] = []

    def names(self) -> list[str]:
        """The paths in order; of several that lead to one file, with the same partitions, one that is not a link."""
        while self._later:
            self.below(*self._later.pop(0), link=True)
        if not self._links:
            return sorted(self._found)
        chosen: dict[tuple[str, tuple[str, ...]], tuple[bool, str]] = {}
        for path, (real, link) in self._found.items():
            key = (real, _partitions(path.rpartition("/")[0]))
            chosen[key] = min(chosen.get(key, (link, path)), (link, path))
        return sorted(path for _, path in chosen.values())

    def add_named(self, path: Path) -> None:
        """A path that was written as such.

        Raises:
            SourceError: a link to nothing, or what is neither file nor folder.
        """
        if path.is_file():
            self._found[str(path)] = (str(path), False)
        elif os.path.lexists(path):
            raise SourceError(f"{self._where}: {path} is {_what(str(path))}")

    def below(self, folder: str, real: str | None = None, above: tuple[str, ...] = (), link: bool = False) -> None:
        """The files in a folder and its folders; one that leads back to a folder above it is not entered again."""
        real = os.path.realpath(folder) if real is None else real
        if (real, _partitions(folder)) in self._seen or any(f"{one}/".startswith(f"{real}/") for one in above):
            return
        self._seen.add((real, _partitions(folder)))
        try:
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            return  # one that is gone by now has no files
        for entry in entries:
            if entry.name in MARKS:
                refuse_mark(folder, entry.name, self._where)
            if is_hidden(entry.name):
                self.hidden.append(entry.name)
                continue
            linked = entry.is_symlink()
            self._links |= linked
            inside = os.path.realpath(entry.path) if linked else f"{real}/{entry.name}"
            if entry.is_dir():
                if linked:
                    # what is no link comes first
                    self._later.append((entry.path, inside, (*above, real)))
                else:
                    self.below(entry.path, inside, (*above, real), link)
            elif not entry.name.casefold().endswith(self._suffixes):
                self.others.append(entry.name)
            elif entry.is_file():
                self._found[entry.path] = (inside, link or linked)
            elif linked:
                raise SourceError(f"{self._where}: {entry.path} is {_what(entry.path)}")

    def matching(self, folder: str, pattern: Sequence[str], link: bool = False) -> None:
        """What a pattern matches in a folder."""
        head, rest = pattern[0], pattern[1:]
        if head == "**" and not rest:
            self.below(folder, link=link)
            return
        if head == "**":
            self.matching(folder, rest, link)
        try:
            entries = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if entry.name in MARKS:
                refuse_mark(folder, entry.name, self._where)
            if head == "**":
                if not is_hidden(entry.name) and entry.is_dir() and not self._leads_back(entry, folder):
                    self.matching(entry.path, pattern, link or entry.is_symlink())
            elif name_matches(entry.name, head):
                if rest:
                    if entry.is_dir():
                        self.matching(entry.path, rest, link or entry.is_symlink())
                else:
                    self._matched(entry, link or entry.is_symlink())

    def _matched(self, entry: os.DirEntry[str], link: bool) -> None:
        if entry.is_dir():
            # Spark's files are folders of this name
            if entry.name.casefold().endswith(self._suffixes):
                self.below(entry.path, link=link)
            else:
                self.folders.append(entry.name)
        elif entry.is_file():
            self._links = True
            real = os.path.realpath(entry.path) if entry.is_symlink() else f"{self._real_folder(entry)}/{entry.name}"
            self._found[entry.path] = (real, link)
        elif entry.is_symlink():
            raise SourceError(f"{self._where}: {entry.path} is {_what(entry.path)}")

    def _real_folder(self, entry: os.DirEntry[str]) -> str:
        folder = entry.path.rpartition("/")[0]
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        return self._real[folder]

    def _leads_back(self, entry: os.DirEntry[str], folder: str) -> bool:
        return entry.is_symlink() and f"{os.path.realpath(folder)}/".startswith(f"{os.path.realpath(entry.path)}/")


def _partitions(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if "=" in part)


def _what(path: str) -> str:
    if os.path.islink(path):  # noqa: PTH114
        return f"a link to {os.readlink(path)}, which does not exist; repair or remove the link"  # noqa: PTH115
    return "neither a file nor a folder"


def _check_names(names: Iterable[str], where: str) -> None:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            shown = name.encode("utf-8", "backslashreplace").decode()
            raise SourceError(f"{where}: {shown}: the name of the file is not UTF-8; rename it") from None


def local_identities(files: Iterable[SourceFile], where: str) -> list[FileIdentity]:
    """What identifies the content of files; a link is the file that it leads to. One that is gone by now is left out.

    Raises:
        SourceError: a file that cannot be looked at.
    """
    found = []
    for file in files:
        try:
            there = Path(file.location).stat()
        except FileNotFoundError:
            continue
        except OSError as bad:
            raise SourceError(f"{where}: {file.location}: {bad.strerror}") from bad
        device = f"{this_host()}:{there.st_dev}"
        found.append(FileIdentity(file.path, there.st_size, there.st_mtime_ns, there.st_ino, device))
    return found


@cache
def this_host() -> str:
    """This host, among those that share a registry: as the system names itself, in a digest."""
    for file in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        try:
            name = Path(file).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        if name:
            break
    else:
        name = socket.gethostname()
    return blake2b(name.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
