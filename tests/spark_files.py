"""Which tests need Spark: files named `test_spark_*.py`. They are run where one is installed, and nowhere else."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

KIND = (
    "sail"
    if importlib.util.find_spec("pysail") is not None
    else "spark"
    if importlib.util.find_spec("pyspark") is not None
    else None
)
"""Which one is installed; None: neither."""


def is_of_spark(path: Path) -> bool:
    """Whether a file of tests needs Spark."""
    return path.name.startswith("test_spark_")


def spark_files(paths: Iterable[Path]) -> list[Path]:
    """The files of tests that need Spark in some folders."""
    return [file for path in paths if path.is_dir() for file in sorted(path.rglob("*.py")) if is_of_spark(file)]
