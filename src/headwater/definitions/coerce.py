"""What users wrote as the containers that definitions hold; what cannot be one becomes a problem."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def as_tuple(value: Any, what: str, problems: list[str]) -> tuple[Any, ...]:
    """A tuple of a list or any iterable but text; a problem and an empty tuple where it is none."""
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return tuple(value)
    problems.append(f"{what}: must be a list, not {value!r}")
    return ()


def as_dict(value: Any, what: str, problems: list[str]) -> dict[Any, Any]:
    """A dict of a mapping or None; a problem and an empty dict where it is none."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return dict(value)
    problems.append(f"{what}: must be a mapping, not {value!r}")
    return {}
