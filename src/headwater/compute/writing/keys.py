"""Keys given to delete and materialize, as one table: each key once, none of them NULL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from headwater.errors import EntityKeyError
from headwater.online.reading.entities import entity_batch, half_pair, key_array, refuse_wide
from headwater.planning.key_forms import key_form, names_in_forms
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
        if dtype.name in ("int32", "int64"):
            refuse_wide({name: values}, where)
        try:
            columns[name] = key_array(values, pa.int64() if dtype.name == "int32" else dtype.arrow)
        except UnicodeEncodeError:
            raise half_pair(name, values, where) from None
        if columns[name].null_count:
            row = columns[name].is_null().index(True).as_py()
            raise EntityKeyError(f"{where}: join key {name!r} is NULL, or not a {dtype}, in row {row}")
    table = pa.table(columns)
    return table.group_by(list(keys), use_threads=False).aggregate([]).select(list(keys)).combine_chunks()


def newest(record: ViewRecord) -> ViewVersion:
    """The live version; the newest where none is."""
    return record.versions[record.live] if record.live else max(record.versions.values(), key=lambda v: v.revision)


@dataclass(frozen=True)
class KeysOfVersions:
    """Keys that were given for one version, and the versions that have the same join keys.

    Attributes:
        table: the keys by the names of the version that they were given for, integers as int64; no NULLs.
        same: the versions, retired ones too, that have these join keys, each with its names for them in the order of
            the table's columns.
        left: versions, not retired, that have other join keys.
    """

    table: pa.Table
    same: tuple[tuple[ViewVersion, tuple[str, ...]], ...]
    left: tuple[ViewVersion, ...]

    def of(self, names: Sequence[str]) -> pa.Table:
        """The keys by other names."""
        return self.table.rename_columns(list(names)) if names else self.table


def keys_of_versions(record: ViewRecord, entities: Any, where: str) -> KeysOfVersions:
    """Keys as the live version (else the newest) has them, or as another one has them that is not retired.

    Raises:
        EntityKeyError: they are those of no such version.
    """
    refused: list[tuple[ViewVersion, EntityKeyError]] = []
    for version in one_a_form(record):
        try:
            table = key_table(entities, version.view.join_keys, where)
        except EntityKeyError as bad:
            refused.append((version, bad))
            continue
        named = names_in_forms(key_form(version.view), record.key_forms)
        forms = [(each, named.get(key_form(each.view))) for each in record.versions.values()]
        same = tuple((each, names) for each, names in forms if names is not None)
        left = tuple(each for each, names in forms if names is None and each.retired_at is None)
        return KeysOfVersions(table, same, left)
    (_, first), *rest = refused
    other = [f"version {version.version} has {shown_keys(version)}" for version, _ in rest]
    raise EntityKeyError("; ".join([str(first), *other]))


def shown_keys(version: ViewVersion) -> str:
    """A version's join keys for messages: `user (int64), item (string)`."""
    return ", ".join(f"{name} ({dtype})" for name, dtype in version.view.join_keys.items()) or "no join keys"


def one_a_form(record: ViewRecord) -> list[ViewVersion]:
    """A version for each kind of join keys: the live one (else the newest), then those not retired, newest first."""
    first = newest(record)
    versions = [first, *sorted(record.active, key=lambda version: version.revision, reverse=True)]
    found: dict[frozenset[tuple[str, ...]], ViewVersion] = {}
    for version in versions:
        found.setdefault(frozenset(key_form(version.view)), version)
    return list(found.values())
