"""Which files of a source lack a column that others have; one rule on disk and in object stores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def lacking_names(files: Sequence[str], names: Sequence[Iterable[str]], columns: Iterable[str]) -> dict[str, str]:
    """Column → which files lack it: the first, and how many more.

    Args:
        files: as errors name them.
        names: of each file its columns.
        columns: the columns that are asked about.
    """
    if len(files) == 1:
        return {}
    lack: dict[str, list[str]] = {}
    wanted = {name.casefold(): name for name in columns}
    for file, own in zip(files, names, strict=True):
        for name in wanted.keys() - {name.casefold() for name in own}:
            lack.setdefault(wanted[name], []).append(file)
    return {
        name: found[0] + (f" and {len(found) - 1} more of {len(files)} files" if len(found) > 1 else "")
        for name, found in lack.items()
    }
