"""What all definitions have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from msgspec.structs import force_setattr

from headwater.definitions.arguments import ExplainsArguments
from headwater.values import PartlyCompared


class Definition(PartlyCompared, frozen=True, dict=True, metaclass=ExplainsArguments):
    """A part of a project as its user defines it.

    Attributes:
        problems: what is wrong with its arguments, one line each; found while it is made, reported by `validate`.
    """

    problems: ClassVar[tuple[str, ...]] = ()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # what was wrong is no argument any more
        return _made_again, (type(self), {name: getattr(self, name) for name in self.__struct_fields__}, self.problems)

    def __copy__(self) -> Self:
        make, given = self.__reduce__()
        again: Self = make(*given)
        return again


def _made_again(kind: type[Definition], given: Mapping[str, Any], problems: tuple[str, ...]) -> Definition:
    made = kind(**given)
    force_setattr(made, "problems", problems)
    return made
