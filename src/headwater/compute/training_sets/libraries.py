"""The versions of what computes the values of a training set."""

from __future__ import annotations

import platform
from importlib import metadata

_LIBRARIES = ("headwater", "duckdb", "numpy", "pyarrow", "sqlglot")


def libraries() -> dict[str, str]:
    """Package → version, of what computes values; `python` and `platform` among them."""
    found = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
