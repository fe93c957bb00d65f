"""What a measurement needs to be replicated: the machine and the versions installed."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from headwater.advisor.measurement import Machine
from headwater.registry.registry import FeatureRegistry

PACKAGES = (
    *("headwater", "numpy", "pyarrow", "duckdb", "sqlalchemy", "msgspec"),
    *("lmdb", "redis", "hiredis", "botocore", "aiohttp", "psycopg"),
)
"""Those whose versions may matter."""
_CPUINFO = Path("/proc/cpuinfo")


def machine() -> Machine:
    """This machine."""
    cpus = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cpus
    return Machine(
        f"{platform.system()} {platform.release()} {platform.machine()}",
        _processor(),
        cpus,
        usable,
        _memory(),
        _load(),
    )


def versions_of() -> dict[str, str]:
    """Python's version, and those of the packages installed."""
    found = {"python": f"{platform.python_implementation()} {platform.python_version()}"}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def registry_kind(registry: FeatureRegistry) -> str:
    """The registry's database: `sqlite`, `postgresql`."""
    return registry.engine.dialect.name


def _processor() -> str:
    try:
        for line in _CPUINFO.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None
