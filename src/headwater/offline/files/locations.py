"""What a source's path names: a place, taken as it is written, or a pattern of places; one rule for all stores."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import unquote

from headwater.errors import SourceError
from headwater.urls import shown_location

_REMOTE = re.compile(r"(s3|gs|gcs|abfss?)://", re.IGNORECASE)
_WILD = frozenset("*?[")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_SUPPORTED = "a source is a path, or a URL that begins with file://, s3:// or gs://"
_INSTEAD = {
    "s3a": "write s3://",
    "s3n": "write s3://",
    "az": "write abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/…",
    "dbfs": "on Databricks the same files are below /dbfs/",
    "hdfs": "mount it, or copy the files (hdfs dfs -get)",
    "http": "download the file",
    "https": "download the file",
}


def is_remote(location: str) -> bool:
    """Whether a source's path is in an object store."""
    return _REMOTE.match(location) is not None


def is_wild(text: str) -> bool:
    """Whether a name may be a pattern."""
    return not _WILD.isdisjoint(text)


def literal_pattern(path: str) -> str:
    """The pattern that only a path of this very name matches."""
    return "".join(f"[{character}]" if character in _WILD else character for character in path)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is left out where its name is not written: such are kept for other purposes."""
    return name.startswith(("_", "."))


def local_path(location: str, folder: Path, where: str) -> Path:
    """The path on disk that a location names, which may be a pattern.

    What has the very name that is written comes before `file://` and `~`.

    Args:
        location: as the user wrote it.
        folder: the project's folder, to which it may be relative.
        where: for errors.

    Raises:
        SourceError: a URL that no file on disk has.
    """
    path = folder / location
    if os.path.lexists(path):
        return path
    scheme = _SCHEME.match(location)
    if scheme is not None and scheme[1].casefold() == "file":
        plain = location[scheme.end() - 1 :]
        if plain.startswith("//"):
            host, _, rest = plain[2:].partition("/")
            if host.casefold() not in ("", "localhost"):
                raise SourceError(f"{where}: {location}: a path in a file URL is absolute: file:///{host}/{rest}")
            plain = f"/{rest}"
        return Path(plain) if os.path.lexists(plain) else Path(unquote(plain))
    if scheme is not None:
        instead = _INSTEAD.get(scheme[1].casefold())
        more = "" if instead is None else f"; {instead}"
        raise SourceError(f"{where}: {shown_location(location)}: {scheme[1]}:// cannot be read; {_SUPPORTED}{more}")
    if os.name != "nt" and (_DRIVE.match(location) or "\\" in location):
        plain = location.replace("\\", "/")
        raise SourceError(f"{where}: no file at {location}: a Windows path; here '/' separates folders: {plain}")
    return Path(os.path.expanduser(location)) if location.startswith("~") else path  # noqa: PTH111 - may stay as it is


def split_pattern(path: Path, base: Path) -> tuple[Path, tuple[str, ...]]:
    """What of a path is a place, and what a pattern below it; empty where all of it is a place.

    A part is a pattern where it has a wildcard and nothing of that very name is there. The parts of `base` never are.
    """
    root, parts = (base, path.relative_to(base).parts) if path.is_relative_to(base) else (Path(path.anchor), path.parts)
    for i, part in enumerate(parts):
        if is_wild(part) and not os.path.lexists(root / part):
            return root, parts[i:]
        root = root / part
    return root, ()


def name_matches(name: str, pattern: str) -> bool:
    """Whether a part of a pattern (`*`, `?`, `[…]`) takes a name; hidden ones only where it begins as they do."""
    if is_hidden(name) and not pattern.startswith(name[0]):
        return False
    return name == pattern or (is_wild(pattern) and fnmatchcase(name, pattern))


def path_matches(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a pattern takes the parts of a path; `**` is any number of folders, at its end of anything."""
    if not pattern:
        return not names
    head, rest = pattern[0], pattern[1:]
    if head == "**":
        if not rest:
            return bool(names) and not any(map(is_hidden, names))
        return path_matches(names, rest) or (
            bool(names) and not is_hidden(names[0]) and path_matches(names[1:], pattern)
        )
    return bool(names) and name_matches(names[0], head) and path_matches(names[1:], rest)


def none_there(place: str, others: Sequence[str], hidden: Sequence[str], suffixes: Sequence[str]) -> str:
    """What a folder that holds no file of a source holds instead."""
    ends = " or ".join(filter(None, (", ".join(suffixes[:-1]), *suffixes[-1:])))
    left = f"; left out, since names that begin with _ or . are: {_few(hidden)}" if hidden else ""
    if not others:
        return f"the folder {place} has {'no other files' if hidden else 'no files'}{left}"
    count = f"{len(others)} file{'' if len(others) == 1 else 's'}, none of which ends"
    count = "1 file, which does not end" if len(others) == 1 else count
    return f"the folder {place} has {count} in {ends}: {_few(others)}{left}"


def _few(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)[:5]) + (", …" if len(names) > 5 else "")
