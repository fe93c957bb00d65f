"""Runs that read files by several statements: one during which files are replaced is made again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from headwater.errors import SourceError, SpineError
from headwater.planning.files import FileIdentity, moved_files

T = TypeVar("T")
ATTEMPTS = 3
"""How often a run is made whose files are replaced meanwhile."""


class _Moved(Exception):
    """Files were replaced while they were read."""


def consistent(files: Callable[[], Sequence[FileIdentity]], run: Callable[[Callable[[], None]], T]) -> T:
    """The result of a run that saw one state of its files.

    Args:
        files: lists the files that more than one statement reads, as they are now.
        run: makes a run; it calls its argument once everything is read, which ends the run where files have changed.

    Returns:
        What the first run returned during which no file changed.

    Raises:
        SourceError: files that change during every run.
    """
    moved: frozenset[str] = frozenset()
    for _ in range(ATTEMPTS):
        before = files()

        def check(before: Sequence[FileIdentity] = before) -> None:
            nonlocal moved
            moved = _moved(before, files)
            if moved:
                raise _Moved

        try:
            return run(check)
        except _Moved:
            continue
        except (SourceError, SpineError):
            moved = _moved(before, files)
            if not moved:
                raise
    raise SourceError(
        f"{_names(moved)} changed while it was read, {ATTEMPTS} times in a row: the result would not be consistent; "
        "write new files instead of changing old ones, or read the source while nobody writes it"
    )


def _moved(before: Sequence[FileIdentity], files: Callable[[], Sequence[FileIdentity]]) -> frozenset[str]:
    """Which of these files are others by now, or gone."""
    if not before:
        return frozenset()
    try:
        changed, gone = moved_files(before, files())
    except SourceError:  # none is there
        return frozenset(file.path for file in before)
    return changed | gone


def _names(paths: Iterable[str]) -> str:
    first, *more = sorted(paths)
    return first if not more else f"{first} (and {len(more)} more files)"
