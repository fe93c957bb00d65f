"""Columns and entities of requests in Python values, and how many they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headwater.serving.answers import invalid
from headwater.types import DType
from headwater.wire.json_values import from_json


def column(where: str, values: Any, dtype: DType | None) -> Any:
    """A list of values, or one for all rows, in Python values; as it is where its dtype is not known.

    Args:
        where: what errors call it.
        values: as JSON has them.
        dtype: what they are meant to be.

    Raises:
        Refused: a text that is not of the dtype's form, with its row.
    """
    if dtype is None:
        return values
    try:
        return from_json(values, dtype) if isinstance(values, list) else from_json([values], dtype)[0]
    except ValueError as bad:
        raise invalid(f"{where}, {bad}") from None


def entity_count(given: dict[str, Any] | list[Any]) -> int:
    """How many entities a request names."""
    if isinstance(given, list):
        return len(given)
    return max((len(values) for values in given.values() if isinstance(values, list)), default=1)


def entities(given: dict[str, Any] | list[Any], keys: Mapping[str, DType]) -> Any:
    """The entities of a request in Python values, in a form that the store takes.

    Raises:
        Refused: a text that is not of its key's form.
    """
    if isinstance(given, dict):
        return {name: _key(name, values, keys) for name, values in given.items()}
    if given and isinstance(given[0], dict):
        names = dict.fromkeys(name for entity in given if isinstance(entity, dict) for name in entity)
        if all(isinstance(entity, dict) and len(entity) == len(names) for entity in given):
            return {name: _key(name, [entity[name] for entity in given], keys) for name in names}
        # one that lacks a key: the store says which
        return given
    if len(keys) == 1:
        return _key(next(iter(keys)), given, keys)
    return given


def _key(name: str, values: Any, keys: Mapping[str, DType]) -> Any:
    return column(f"entities: join key {name!r}", values, keys.get(name))
