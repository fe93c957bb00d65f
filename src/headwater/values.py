"""Frozen values: what a frozen dataclass is, made in a fortieth of the time.

A process that only serves makes some eighty kinds of values while it starts. `dataclass` writes and compiles the text
of six methods for each of them, 0.5 to 0.9 ms in all; the methods of msgspec's structs are written in C.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import msgspec


class _Fields:
    """The fields of a struct as the functions of `dataclasses` look for them, made when one of these is called."""

    def __init__(self) -> None:
        self._made: dict[type, dict[str, dataclasses.Field[Any]]] = {}

    def __get__(self, instance: object, owner: type[Value]) -> dict[str, dataclasses.Field[Any]]:
        if owner not in self._made:
            twin = dataclasses.make_dataclass(owner.__name__, owner.__struct_fields__)
            self._made[owner] = {field.name: field for field in dataclasses.fields(twin)}
        return self._made[owner]


class Value(msgspec.Struct, frozen=True):
    """The base of values; `replace`, `fields`, `asdict` and `is_dataclass` of `dataclasses` take them.

    A subclass says `frozen=True` again, and `dict=True` where it has attributes that are made at their first use.
    """

    __dataclass_fields__ = _Fields()


class PartlyCompared(Value, frozen=True):
    """A value of which some fields count neither for equality nor for its `repr`."""

    not_compared: ClassVar[tuple[str, ...]] = ()
    """The names of these fields."""

    @property
    def _compared(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__struct_fields__ if name not in self.not_compared}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PartlyCompared) and type(other) is type(self) and self._compared == other._compared

    def __ne__(self, other: object) -> bool:
        # the struct's own compares all fields
        return not self == other

    def __hash__(self) -> int:
        return hash(tuple(self._compared.values()))

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in self._compared.items())})"
