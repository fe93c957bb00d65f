"""Files of a source on disk: which there are, and what identifies the content of each."""

from __future__ import annotations

import hashlib
import itertools
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from headwater.errors import SourceError
from headwater.planning.files import FileIdentity

_WILD = "*?["


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source.

    Attributes:
        path: as identities and reports name it: relative to the project's folder where the source's own path is.
        location: what is opened.
    """

    path: str
    location: str


def root_of(location: str, folder: Path) -> Path:
    """The path that a location names; of a glob what comes before its first wildcard."""
    path = folder / location
    if any(mark in location for mark in _WILD):
        return Path(*itertools.takewhile(lambda part: not any(mark in part for mark in _WILD), path.parts))
    return path


def list_local(location: str, folder: Path, suffixes: tuple[str, ...], where: str) -> list[SourceFile]:
    """The files of a path, folder or glob, in order of name; what begins with `_` or `.` below its root is left out.

    Args:
        location: as the source names it.
        folder: the project's folder, to which it may be relative.
        suffixes: how the names of files in a folder end.
        where: for errors.

    Raises:
        SourceError: none is there, a folder cannot be listed, or a name is not UTF-8.
    """
    path = folder / location
    try:
        if any(mark in location for mark in _WILD):
            found = _matching(path, root_of(location, folder))
        elif path.is_dir():
            found = _below(path, suffixes)
        else:
            found = iter([str(path)] if path.is_file() else [])
        names = sorted(set(found))
    except OSError as bad:
        raise SourceError(f"{where}: cannot list {bad.filename or path}: {bad.strerror}") from bad
    if not names:
        raise SourceError(f"{where}: no file at {path}; paths are relative to the project folder {folder}")
    _check_names(names, where)
    # a source's own path may be absolute, or lead out of the folder
    prefix = "" if Path(location).is_absolute() else os.path.join(folder, "")  # noqa: PTH118 - a Path ends with no slash
    return [SourceFile(name.removeprefix(prefix), name) for name in names]


def _matching(path: Path, root: Path) -> Iterator[str]:
    pattern = str(path.relative_to(path.anchor))
    return (str(p) for p in Path(path.anchor or ".").glob(pattern) if p.is_file() and not _hidden(p, root))


def _hidden(path: Path, root: Path) -> bool:
    return any(_is_hidden(part) for part in path.relative_to(root).parts)


def _is_hidden(name: str) -> bool:
    return name.startswith(("_", "."))


def _below(root: Path, suffixes: tuple[str, ...]) -> Iterator[str]:
    """The files in a folder and its folders; links to folders are not followed, so that none is read twice."""

    def failed(bad: OSError) -> None:
        # one that is gone by now has no files; one that cannot be read is not an empty one
        if not isinstance(bad, FileNotFoundError):
            raise bad

    for folder, folders, files in os.walk(root, onerror=failed):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        for name in files:
            if name.casefold().endswith(suffixes) and not _is_hidden(name):
                path = os.path.join(folder, name)  # noqa: PTH118 - a Path for each of thousands takes ten times as long
                if os.path.isfile(path):  # noqa: PTH113
                    yield path


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
        device = f"{_host()}:{there.st_dev}"
        found.append(FileIdentity(file.path, there.st_size, there.st_mtime_ns, there.st_ino, device))
    return found


@cache
def _host() -> str:
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
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
