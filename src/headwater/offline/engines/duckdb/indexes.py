"""What an index of a source's rows is of: the files as they are, and the statements that make the rows of them."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from headwater.definitions.source import Source
from headwater.definitions.sources import ParquetSource
from headwater.offline.engines.duckdb.parquet_sources import parquet_files
from headwater.offline.files.locations import is_remote
from headwater.offline.index.file import FORMAT
from headwater.offline.join.relations import Relation

_NAMES = re.compile(r"\bhw\d+_[a-z]+\d+|<row \d+:")
"""What differs between runs of one statement: the names of its tables, and the places of errors."""


def indexed_files(source: Source | None, folder: Path, where: str) -> tuple[str, int] | None:
    """What identifies the files of a source of which indexes are kept, and when the last was changed (nanoseconds).

    The time of a file's last change of any kind is part of it: a file may be written over and given its old times.
    None of a source of another kind.
    """
    if not isinstance(source, ParquetSource) or is_remote(source.location):
        return None
    found, latest = [], 0
    for file in parquet_files(source, folder, where):
        try:
            there = Path(file.location).stat()
        except OSError:
            return None
        found.append([file.location, there.st_size, there.st_mtime_ns, there.st_ctime_ns, there.st_ino])
        latest = max(latest, there.st_mtime_ns, there.st_ctime_ns)
    return json.dumps(found), latest


def indexed_rows(statements: Sequence[str], rows: Relation, delay: int) -> str:
    """What makes the rows of files: the statements that read them, the keys and times made of these, the releases."""
    names: dict[str, str] = {}
    made = [tree.sql("duckdb") for tree in (*rows.keys, rows.event, rows.created, rows.ordinal) if tree is not None]
    text = "\n".join([*statements, rows.table.sql("duckdb"), *made, str(delay)])
    text = _NAMES.sub(lambda name: names.setdefault(name[0], f"name{len(names)}"), text)
    digest = hashlib.blake2b(text.encode(), digest_size=32).hexdigest()
    # the package above is not for its parts to import
    release = sys.modules["headwater"].__version__
    return f"{FORMAT} {release} {version('duckdb')} {digest}"
