"""Where in the user's code a definition was written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

import msgspec

from headwater.definitions.definition import Definition

_HERE = str(Path(__file__).parent)


class Placed(Definition, frozen=True, kw_only=True):
    """A definition that knows where it was written.

    Attributes:
        place: file and line, for error messages.
    """

    not_compared: ClassVar[tuple[str, ...]] = ("place",)
    place: str = msgspec.field(default_factory=lambda: calling_place())


def calling_place() -> str:
    """`features.py:12` of the innermost frame outside this package, for error messages."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((_HERE, "<")) and not file.endswith("dataclasses.py"):
            return f"{Path(file).name}:{frame.f_lineno}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return ""
