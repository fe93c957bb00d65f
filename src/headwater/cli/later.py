"""Modules of this room that take long to import, loaded when first used: `--help` must not wait for Rich or Arrow."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.cli import draw, files, sample
    from headwater.compute import worker

__all__ = ["draw", "files", "sample", "worker"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = "compute" if name == "worker" else "cli"
    module = importlib.import_module(f"headwater.{room}.{name}")
    globals()[name] = module
    return module
