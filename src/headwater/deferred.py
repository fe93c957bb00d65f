"""What is imported or compiled when it is first used, where a process may never need it and it takes long."""

from __future__ import annotations

import importlib
import re
from types import ModuleType
from typing import Any


class _Deferred(ModuleType):
    def __getattr__(self, name: str) -> Any:
        # not from sys.modules, which has the module as soon as another thread begins to import it: this waits for it
        return getattr(importlib.import_module(self.__name__), name)


def deferred(name: str) -> Any:
    """A module, imported when one of its attributes is first asked for; by whichever thread comes first, once.

    Args:
        name: its full name.
    """
    return _Deferred(name)


class _Pattern:
    def __init__(self, text: str, flags: int) -> None:
        self._text, self._flags = text, flags

    def __getattr__(self, name: str) -> Any:
        return getattr(re.compile(self._text, self._flags), name)


def deferred_pattern(text: str, flags: int = 0) -> Any:
    """A regular expression, compiled when one of its methods is first asked for; for those that are seldom used.

    Args:
        text: as for `re.compile`.
        flags: likewise.
    """
    return _Pattern(text, flags)
