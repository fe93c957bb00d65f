"""Numbering: which version a definition is, given what is registered, and which number a new one gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from headwater.errors import VersionConflict
from headwater.planning.differences import NO_DIFFERENCE, Bump, Difference
from headwater.planning.snapshot import (
    AnyRecord,
    AnyVersion,
    version_key,
)

FIRST = "1.0.0"


@dataclass(frozen=True)
class Choice:
    """The version that a definition is.

    Attributes:
        version: its number.
        found: the registered version that it is; None where it is new.
        base: the version that a new one is compared with; None where there is none.
        difference: from `base`, for a new one.
    """

    version: str
    found: AnyVersion | None = None
    base: AnyVersion | None = None
    difference: Difference = NO_DIFFERENCE


def next_version(base: str, bump: Bump, taken: Iterable[str]) -> str:
    """The number after `base` by a bump, above whatever is taken at that level."""
    numbers = [version_key(version) for version in taken]
    major, minor, patch = version_key(base)
    match bump:
        case Bump.MAJOR:
            return f"{max((n[0] for n in numbers), default=major) + 1}.0.0"
        case Bump.MINOR:
            return f"{major}.{max((n[1] for n in numbers if n[0] == major), default=minor) + 1}.0"
        case Bump.PATCH:
            patches = (n[2] for n in numbers if n[:2] == (major, minor))
            return f"{major}.{minor}.{max(patches, default=patch) + 1}"


def choose(
    record: AnyRecord | None,
    explicit: str | None,
    same: Callable[[Any], bool],
    differ: Callable[[Any], Difference],
    where: str,
) -> Choice:
    """Which version a definition is.

    A retired version is never it: it missed the deletes since, so that its rows cannot be trusted again.

    Args:
        record: what is registered under the name.
        explicit: the version that the definition names, if it does.
        same: whether a registered version has the definition's meaning.
        differ: the difference from a registered version to the definition.
        where: the place and name, for errors.

    Raises:
        VersionConflict: the named version is registered with another definition, or retired.
    """
    if record is None:
        return Choice(explicit or FIRST)
    if explicit is not None:
        return _choose_explicit(record, explicit, differ, where)
    equal = [version for version in record.active if same(version)]
    if equal:
        found = max(equal, key=lambda v: (v.version == record.live, v.version == record.waiting, v.revision))
        return Choice(found.version, found)
    base = base_of(record)
    difference = differ(base)
    number = next_version(base.version, difference.bump or Bump.PATCH, record.versions)
    return Choice(number, None, base, difference)


def base_of(record: AnyRecord) -> AnyVersion:
    """The version that a change starts from: the one that waits to go live, else the live one, else the newest."""
    name = record.waiting or record.live or max(record.versions, key=version_key)
    return record.versions[name]


def _choose_explicit(record: AnyRecord, explicit: str, differ: Callable[[Any], Difference], where: str) -> Choice:
    found: AnyVersion | None = record.versions.get(explicit)
    if found is None:
        base = base_of(record)
        return Choice(explicit, None, base, differ(base))
    difference = differ(found)
    needed = next_version(explicit, difference.bump or Bump.PATCH, record.versions)
    if difference.bump is not None:
        lines = "".join(f"\n    {line}" for line in difference.lines)
        raise VersionConflict(
            f"{where}: version {explicit} is registered with another definition:{lines}\n"
            f"    this needs a {difference.bump} bump: version={needed!r}, or omit the version"
        )
    if found.retired_at is not None:
        raise VersionConflict(
            f"{where}: version {explicit} was retired and is no longer updated; bring it back as version={needed!r}"
        )
    return Choice(explicit, found)
