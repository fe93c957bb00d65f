"""Columns and entities of requests in Python values, and how many they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from headwater.planning.request_values import is_values
from headwater.serving.answers import invalid
from headwater.types import DType
from headwater.wire.json_values import from_json

_AS_IN_PYTHON = frozenset({"int32", "int64", "string", "bool"})


def column(values: Any, dtype: DType | None, where: str, name: str = "") -> Any:
    """A list of values, or one for all rows, in Python values; as it is where its dtype is not known.

    Args:
        values: as JSON has them.
        dtype: what they are meant to be.
        where: what errors call it.
        name: its own, where it has one.

    Raises:
        Refused: a text that is not of the dtype's form, with its row.
    """
    if dtype is None:
        return values
    try:
        return from_json(values, dtype) if isinstance(values, list) else from_json([values], dtype)[0]
    except ValueError as bad:
        raise invalid(f"{where}{f' {name!r}' if name else ''}, {bad}") from None


def entity_count(given: dict[str, Any] | list[Any]) -> int:
    """How many entities a request names."""
    if isinstance(given, list):
        return len(given)
    sizes = [len(values) for values in given.values() if isinstance(values, list)]
    return max(sizes) if sizes else 1


def entities(given: dict[str, Any] | list[Any], keys: Mapping[str, DType]) -> Any:
    """The entities of a request in Python values, in a form that the store takes.

    Raises:
        Refused: a text that is not of its key's form.
    """
    if isinstance(given, dict):
        return {name: _key(name, values, keys) for name, values in given.items()}
    if given and isinstance(given[0], dict):
        names = dict.fromkeys(name for entity in given if isinstance(entity, dict) for name in entity)
        if names and all(isinstance(entity, dict) and len(entity) == len(names) for entity in given):
            return {name: _key(name, [entity[name] for entity in given], keys) for name in names}
        # one that lacks a key: the store says which
        return given
    if len(keys) == 1:
        return _key(next(iter(keys)), given, keys)
    return given


def means_the_same(given: dict[str, Any] | list[Any], keys: Mapping[str, DType]) -> bool:
    """Whether the entities of a request are in JSON what they are in Python, texts that stand for integers aside."""
    return type(given) is dict and all(
        type(values) is list and name in keys and keys[name].name in _AS_IN_PYTHON for name, values in given.items()
    )


def stream_entity_count(table: pa.Table, repeated: Mapping[str, Any]) -> int:
    """How many entities an Arrow request names."""
    return table.num_rows if table.num_columns or not repeated else 1


def stream_entities(table: pa.Table, repeated: Mapping[str, Any], keys: Mapping[str, DType]) -> Any:
    """The entities of an Arrow request: its columns, and keys of one value for all rows.

    Raises:
        Refused: a key given in both ways, or a text that is not of its key's form.
    """
    both = next((name for name in table.column_names if name in repeated), None)
    if both is not None:
        raise invalid(f"entities: join key {both!r} is a column of the stream and in the metadata; give it once")
    columns = {name: table.column(i) for i, name in enumerate(table.column_names)}
    plain = {
        name: array.to_pylist() if name in keys and array.type == keys[name].arrow and _is_plain(keys[name]) else array
        for name, array in columns.items()
    }
    return plain | {name: _key(name, value, keys) for name, value in repeated.items()}


def request_values(given: Mapping[str, Any], fields: Mapping[str, DType], size: int) -> dict[str, Any]:
    """The values for on-demand features in Python values; those of fields that are not known are left as they are.

    Args:
        given: as JSON has them.
        fields: request field → dtype.
        size: how many entities there are.

    Raises:
        Refused: a text that is not of its field's form.
    """
    return {name: _field(name, value, fields.get(name), size) for name, value in given.items()}


def _field(name: str, value: Any, dtype: DType | None, size: int) -> Any:
    if dtype is not None and isinstance(value, list) and not is_values(value, dtype, size):
        # an array that is one value for all rows
        return column([value], dtype, "request:", name)[0]
    return column(value, dtype, "request:", name)


def _is_plain(dtype: DType) -> bool:
    return dtype.name in ("int32", "int64", "string", "bytes", "bool")


def _key(name: str, values: Any, keys: Mapping[str, DType]) -> Any:
    return column(values, keys.get(name), "entities: join key", name)
