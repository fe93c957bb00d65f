"""Modules that are imported when they are first used, where a process may never need them and they take long."""

from __future__ import annotations

import importlib
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
