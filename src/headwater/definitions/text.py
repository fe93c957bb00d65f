"""Text of definitions: what the registry can keep."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from headwater.errors import brief
from headwater.types import is_utf8

_DEEP = 8
"""How deep containers of a definition are looked at; none is that deep."""


def text_problems(definition: Any, but: tuple[str, ...] = ()) -> Iterator[str]:
    """Texts anywhere in a definition that cannot be written as UTF-8, which no registry could store.

    Args:
        definition: an entity, feature, view or service, or a part of one.
        but: names of attributes that are looked at elsewhere.
    """
    for where, text in _texts(definition, "", but, _DEEP):
        yield f"{where}: {brief(text)} contains an unpaired surrogate: it cannot be encoded as UTF-8"


def _texts(value: Any, where: str, but: tuple[str, ...], deep: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        if not is_utf8(value):
            yield where, value
    elif deep == 0:
        return
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            # where it was written may be any path
            if field.name not in (*but, "place", "name", "problems") and not field.name.startswith("_"):
                inner = getattr(value, field.name, None)
                yield from _texts(inner, f"{where}.{field.name}" if where else field.name, (), deep - 1)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(key, where, (), deep - 1)
            yield from _texts(inner, f"{where}[{brief(key)}]", (), deep - 1)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for inner in value:
            yield from _texts(inner, where, (), deep - 1)
