"""The engine that tests on Spark share; suites of engines have one of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headwater.offline.engines.spark.engine import SparkEngine


@pytest.fixture
def engine(tmp_path: Path, spark: Any) -> Iterator[SparkEngine]:
    """An engine beside the session of the tests."""
    engine = SparkEngine(tmp_path, session=spark)
    yield engine
    engine.close()
