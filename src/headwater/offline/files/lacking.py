"""Which files of a source lack a column that others have, or name it otherwise; one rule for all kinds of files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from headwater.definitions.names import NAMED_IN, repeated, same_but_case, twin
from headwater.definitions.sources import LACKING
from headwater.errors import SourceError, listing


def lacking_names(files: Sequence[str], names: Sequence[Iterable[str]], columns: Iterable[str]) -> dict[str, str]:
    """Column → which files lack it: the first, with the columns that it may have in its place, and how many more.

    Args:
        files: as errors name them.
        names: of each file its columns.
        columns: the columns that are asked about.
    """
    if len(files) == 1:
        return {}
    lack: dict[str, list[int]] = {}
    wanted = {name.casefold(): name for name in columns}
    for number, own in enumerate(names):
        for name in wanted.keys() - {name.casefold() for name in own}:
            lack.setdefault(wanted[name], []).append(number)
    instead: dict[tuple[int, ...], str] = {}
    found = {}
    for name, numbers in lack.items():
        some = tuple(numbers)
        if some not in instead:
            instead[some] = _instead(names, some)
        more = f" and {len(numbers) - 1} more of {len(files)} files" if len(numbers) > 1 else ""
        found[name] = f"{files[numbers[0]]}{instead[some]}{more}"
    return found


def _instead(names: Sequence[Iterable[str]], lacking: Sequence[int]) -> str:
    """The columns of the first file that lacks one which no file has that has it: it may be one of them, renamed."""
    without = set(lacking)
    new = {name.casefold(): name for name in names[lacking[0]]}
    for number, own in enumerate(names):
        if new and number not in without:
            for name in own:
                new.pop(name.casefold(), None)
    if not new or len(without) == len(names):
        return ""
    return f" (which has {listing(map(repr, new.values()))}, unknown to files that have the column: was it renamed?)"


def check_case(files: Sequence[str], names: Sequence[Iterable[str]], columns: Iterable[str], where: str) -> None:
    """Refuse files of one source that name a column in ways which differ only in case.

    Args:
        files: as errors name them.
        names: of each file its columns.
        columns: the columns that are read.
        where: for errors.

    Raises:
        SourceError: naming both columns and files.
    """
    first = first_files(files, names)
    for name in columns:
        other = twin(name, first)
        if name in first and other is not None and first[name] != first[other]:
            one, two = sorted((name, other), key=list(first).index)
            raise SourceError(f"{where}: {same_but_case(one, two, (first[one] or None, first[two] or None))}")


def first_files(files: Sequence[str], names: Sequence[Iterable[str]]) -> dict[str, str]:
    """Column → the first file that has it."""
    first: dict[str, str] = {}
    for file, own in zip(files, names, strict=True):
        for name in own:
            first.setdefault(name, file)
    return first


def saying(schema: pa.Schema, lack: Mapping[str, str]) -> pa.Schema:
    """A schema whose columns say which files lack them (`LACKING`)."""
    return pa.schema(
        [
            f.with_metadata({**(f.metadata or {}), LACKING: lack[f.name].encode()}) if f.name in lack else f
            for f in schema
        ]
    )


def with_files(schema: pa.Schema, first: Mapping[str, str]) -> pa.Schema:
    """A schema whose columns that differ from another only in case say in which file they are (`NAMED_IN`)."""
    twins = {name for pair in repeated(schema.names) for name in pair if name in first}
    fields = (
        f.with_metadata({**(f.metadata or {}), NAMED_IN: first[f.name].encode()}) if f.name in twins else f
        for f in schema
    )
    return pa.schema(fields)
