"""Modules that are imported when they are first used, where a process may never need them and they take long."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class _Deferred(ModuleType):
    def __getattr__(self, name: str) -> Any:
        module = sys.modules.get(self.__name__) or importlib.import_module(self.__name__)
        return getattr(module, name)


def deferred(name: str) -> Any:
    """A module, imported when one of its attributes is first asked for.

    Args:
        name: its full name.
    """
    return _Deferred(name)
