"""What all definitions have in common."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Self

from headwater.values import PartlyCompared


class Definition(PartlyCompared, frozen=True, dict=True):
    """A part of a project as its user defines it.

    Attributes:
        problems: what is wrong with its arguments, one line each; found while it is made, reported by `validate`.
    """

    problems: ClassVar[tuple[str, ...]] = ()

    def __copy__(self) -> Self:
        return dataclasses.replace(self)
