"""Hive partitions: the columns that the names of a source's folders give, by one rule on disk and in object stores."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import PurePath
from urllib.parse import unquote

import pyarrow as pa

from headwater.errors import SourceError

_NULL = "__HIVE_DEFAULT_PARTITION__"
_RESERVED = "__"
"""How names of headwater's own columns begin."""
_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True)
class Partitions:
    """The partition columns of some files.

    Attributes:
        types: column → its type: date32, int64 or string, whichever all its values have.
        values: of each file, column → its value as text; None is NULL. A file without that folder lacks the column.
    """

    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    values: tuple[Mapping[str, str | None], ...] = ()

    @property
    def uniform(self) -> bool:
        """Whether every file has every partition column."""
        return all(len(found) == len(self.types) for found in self.values)


def partitions(files: Sequence[str], root: str | PurePath, columns: Iterable[str]) -> Partitions:
    """The partition columns of files: folders named `column=value` below the source's own root.

    What is above the root is the project's place on the disk, not data. A column that a file has itself is never
    replaced; names that begin with two underscores are headwater's own.

    Args:
        files: the files' paths.
        root: the folder that the source names; for a glob the part before its first wildcard; a file is its own root.
        columns: the columns that any of the files has itself; names that differ only in case count as one.

    Raises:
        SourceError: a folder's name that is not UTF-8 once its % signs are read.
    """
    folded = {name.casefold() for name in columns}
    found = [_parts(file, root) for file in files]
    names: dict[str, str] = {}
    for parts in found:
        for name in parts:
            if name and not name.startswith(_RESERVED) and name.casefold() not in folded:
                names.setdefault(name.casefold(), name)
    values = tuple(
        {names[name.casefold()]: value for name, value in parts.items() if name.casefold() in names} for parts in found
    )
    types = {name: _type(parts[name] for parts in values if name in parts) for name in names.values()}
    return Partitions(types, values)


def partition_names(files: Iterable[str], root: str | PurePath) -> set[str]:
    """The names of all folders `name=value` below the root: there is nothing to look up where there are none."""
    return {name for file in files for name in _parts(file, root)}


def _parts(file: str, root: str | PurePath) -> dict[str, str | None]:
    pairs = (part.partition("=") for part in PurePath(file).relative_to(root).parent.parts if "=" in part)
    decoded = ((_plain(name, file), _plain(value, file)) for name, _, value in pairs)
    return {name: None if value == _NULL else value for name, value in decoded}


def _plain(text: str, file: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise SourceError(
            f"{file}: the folder {text!r} has % escapes that are not valid UTF-8: rename it (ä is %C3%A4)"
        ) from None


def _type(values: Iterable[str | None]) -> pa.DataType:
    """What all values are in their one written form, so that 007 stays text."""
    texts = [value for value in values if value is not None]
    if texts and all(map(_is_day, texts)):
        return pa.date32()
    if texts and all(map(_is_number, texts)):
        return pa.int64()
    return pa.string()


def _is_day(text: str) -> bool:
    if _DAY.fullmatch(text) is None:
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None and -(2**63) <= int(text) < 2**63
