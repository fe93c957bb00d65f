"""Keys given to delete and materialize, as one table: each key once, none of them NULL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from headwater.errors import EntityKeyError
from headwater.online.entities import entity_batch, half_pair, key_array
from headwater.planning.snapshot import ViewRecord, ViewVersion
from headwater.types import DType


def key_table(entities: Any, keys: Mapping[str, DType], where: str) -> pa.Table:
    """The distinct keys, columns named like the join keys in their order, integers as int64.

    Args:
        entities: as `get_online_features` takes them.
        keys: join key → dtype; none for a global view, which has one key.
        where: what the keys are for, for errors.

    Raises:
        EntityKeyError: keys that are missing, unknown, NULL or of another type.
    """
    batch = entity_batch(entities, keys)
    if not keys:
        return pa.table({"": pa.array([0])}).select([])
    columns = {}
    for name, dtype in keys.items():
        values = batch.values(name)
        try:
            columns[name] = key_array(values, pa.int64() if dtype.name == "int32" else dtype.arrow)
        except UnicodeEncodeError:
            raise half_pair(name, values, where) from None
        if columns[name].null_count:
            row = columns[name].is_null().index(True).as_py()
            raise EntityKeyError(f"{where}: join key {name!r} is NULL, or no {dtype}, in row {row}")
    table = pa.table(columns)
    return table.group_by(list(keys), use_threads=False).aggregate([]).select(list(keys)).combine_chunks()


def newest(record: ViewRecord) -> ViewVersion:
    """The live version; the newest where none is."""
    return record.versions[record.live] if record.live else max(record.versions.values(), key=lambda v: v.revision)


def same_keys(one: ViewVersion, other: ViewVersion) -> bool:
    """Whether two versions have the same join keys, in any order; integers of any width are the same."""
    return _plain(one) == _plain(other)


def _plain(version: ViewVersion) -> dict[str, str]:
    return {name: str(dtype).replace("int32", "int64") for name, dtype in version.view.join_keys.items()}
