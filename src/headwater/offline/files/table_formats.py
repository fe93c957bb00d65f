"""Folders of table formats: their files hold rows that the table's own log has deleted, so they are no plain files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from headwater.errors import SourceError

MARKS = {"_delta_log": "Delta", ".hoodie": "Hudi", "metadata": "Iceberg"}
"""The folder that says of which format the folder above it is; `metadata` where it holds Iceberg's own files."""

ICEBERG_END = ".metadata.json"
_READ = {
    "Delta": "read it with the deltalake package: hw.TableSource(deltalake.DeltaTable(path).to_pyarrow_table(), …)",
    "Iceberg": "read it with the pyiceberg package: hw.TableSource(catalog.load_table(name).scan().to_arrow(), …)",
    "Hudi": "read it with Spark into a hw.TableSource",
}


def refusal(kind: str, place: str, where: str) -> SourceError:
    """The error for a folder of a table format that was named as one of plain files."""
    return SourceError(
        f"{where}: {place} is {'an' if kind == 'Iceberg' else 'a'} {kind} table: as plain files, rows that were "
        f"updated or deleted would come back; export a snapshot into a folder of its own, or {_READ[kind]}"
    )


def refuse_mark(folder: str, name: str, where: str) -> None:
    """Refuse a folder on disk that has a folder of this name, where that says that it is one of a table format.

    Raises:
        SourceError: it is.
    """
    kind = MARKS.get(name)
    if kind is None or (kind == "Iceberg" and not _has_iceberg_files(os.path.join(folder, name))):  # noqa: PTH118
        return
    raise refusal(kind, folder, where)


def _has_iceberg_files(folder: str) -> bool:
    try:
        return any(name.endswith(ICEBERG_END) for name in os.listdir(folder))  # noqa: PTH208 - names alone are needed
    except OSError:
        return False


def refuse_within(folders: Iterable[Path], where: str) -> None:
    """Refuse folders on disk that are of a table format.

    Raises:
        SourceError: one is.
    """
    for folder in folders:
        for name in MARKS:
            if os.path.isdir(folder / name):  # noqa: PTH112 - many folders
                refuse_mark(str(folder), name, where)


def marked_folder(keys: Iterable[str]) -> tuple[str, str] | None:
    """The first folder of a table format among the keys of an object store, and the format."""
    for key in keys:
        parts = key.split("/")
        for i, part in enumerate(parts[:-1]):
            kind = MARKS.get(part)
            if kind is not None and (kind != "Iceberg" or parts[-1].endswith(ICEBERG_END)):
                return "/".join(parts[:i]), kind
    return None
