"""Modules of this room that take long to import, loaded when first used: `--help` must not wait for Rich or Arrow."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.advisor import report_html, requirements
    from headwater.cli import compare_measure, draw, files, sample
    from headwater.compute import keys, worker
    from headwater.planning import shown
    from headwater.registry import registry

__all__ = [
    "compare_measure",
    "draw",
    "files",
    "keys",
    "registry",
    "report_html",
    "requirements",
    "sample",
    "shown",
    "worker",
]

_ROOMS = {
    "keys": "compute",
    "registry": "registry",
    "report_html": "advisor",
    "requirements": "advisor",
    "shown": "planning",
    "worker": "compute",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"headwater.{_ROOMS.get(name, 'cli')}.{name}")
    globals()[name] = module
    return module
