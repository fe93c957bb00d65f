"""Names: what entities, views, features, keys and versions may be called."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from headwater.errors import nearest

MAX_NAME = 128
RESERVED_PREFIX = "__"
RESERVED_SUFFIXES = ("__status", "__event_time")
"""Columns of results that accompany a value."""

_VERSION = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})$")


def name_problem(name: Any, what: str) -> str | None:
    """Why something cannot be a name, None where it can."""
    if not isinstance(name, str):
        return f"the name of {what} must be text, not {name!r}"
    if not name:
        return f"the name of {what} must not be empty"
    if not name.isidentifier():
        return f"{name!r} is not a valid name for {what}: use letters, digits and '_', and begin with a letter or '_'"
    if name.startswith(RESERVED_PREFIX):
        return f"{name!r} is not a valid name for {what}: names that begin with '__' are reserved"
    for suffix in RESERVED_SUFFIXES:
        if name.endswith(suffix):
            return (
                f"{name!r} is not a valid name for {what}: names that end in '{suffix}' are reserved for status and "
                "event-time columns"
            )
    if len(name) > MAX_NAME:
        return f"the name of {what} is longer than {MAX_NAME} characters: {name[:40]}…"
    return None


def version_problem(version: Any) -> str | None:
    """Why something cannot be a version, None where it can or is left out."""
    if version is None or (isinstance(version, str) and _VERSION.match(version)):
        return None
    return f"version {version!r} is not major.minor.patch, such as '1.0.0'; omit it to have `apply` number it"


def repeated(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of names that are the same, or differ only in letter case, which some engines do not tell apart."""
    seen: dict[str, str] = {}
    pairs = []
    for name in names:
        if not isinstance(name, str):
            continue  # the checks of names say so
        folded = name.casefold()
        if folded in seen:
            pairs.append((seen[folded], name))
        seen.setdefault(folded, name)
    return pairs


def twin(name: str, names: Iterable[str]) -> str | None:
    """A name that differs from another only in the case of letters; None where there is none."""
    folded = name.casefold()
    return next((other for other in names if other != name and other.casefold() == folded), None)


def same_but_case(name: str, other: str, files: tuple[str | None, str | None] = (None, None)) -> str:
    """The problem of two columns of one source whose names differ only in case.

    Args:
        name: the one.
        other: the other.
        files: where each is; None where that is not known, or the source is not one of several files.
    """
    where = f" ({files[0]} has the first, {files[1]} the other)" if None not in files and len(set(files)) > 1 else ""
    return f"columns {name!r} and {other!r} differ only in case, which SQL does not distinguish{where}; rename one"


VALID_TO = "\U0010fffdvalid_to"
"""The field of a row that holds when it ends; no feature can have the name, and in order it comes after all of them."""
OPEN = 2**63 - 1
"""What it holds of a row that has not ended; else microseconds since 1970."""

CREATED = "created_time"
"""The reserved column of a row's created time, which counts where the source's own has none."""
LOG_COLUMNS = ("__position", "__arrival", "__through")
"""Columns of the offline log that rows which are written cannot have beside them."""


def is_text(value: Any) -> bool:
    """Whether a value is text that is not empty."""
    return isinstance(value, str) and bool(value)


def of_those(name: Any, names: Iterable[str], what: str) -> str:
    """The end of an error for an unknown name: what there is, and the nearest."""
    known = [str(n) for n in names]
    shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return f"; {what} has {shown or 'none'}{nearest(str(name), known)}"


def date_key_problem(key: str, column: str) -> str:
    """The problem of a join key of dates whose column is a time of the source too."""
    return (
        f"join key {key!r} is a date, and its column {column!r} is a time of the source too, which is an instant in a "
        f"time zone: give the time a column of its own, in a SQLSource: "
        f"SELECT *, CAST({column} AS TIMESTAMP) AS {column}_time"
    )


def named_in(schema: pa.Schema, name: str) -> str | None:
    """The first file that names a column so (`NAMED_IN`); None where that is not known."""
    return noted(schema, name, NAMED_IN)


def noted(schema: pa.Schema, name: str, what: bytes) -> str | None:
    """What the metadata of a column says under a key; None: nothing."""
    found = (schema.field(name).metadata or {}).get(what)
    return None if found is None else found.decode()


REPEATED_IN = b"headwater.repeated_in"
"""In the metadata of a column that a file has twice: which file."""
NAMED_IN = b"headwater.named_in"
"""In the metadata of a column whose name differs from another's only in case: the first file that has it (text)."""
