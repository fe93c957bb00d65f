"""What proves a store, an engine or a registry: conformance suites, the oracle, strategies (extra `testing`)."""

from __future__ import annotations

import os

from headwater.errors import MissingExtra

try:
    import hypothesis  # noqa: F401 - named here, so that one line says what is missing
    import pytest
except ImportError as missing:
    raise MissingExtra("headwater.testing needs pytest and hypothesis: pip install 'headwater[testing]'") from missing

_SUITES = ("lives", "log", "offline", "online", "read", "refill", "registry", "shared", "shared_registry")
pytest.register_assert_rewrite(*(f"headwater.testing.{room}_suite" for room in _SUITES))

SCALE = int(os.environ.get("HEADWATER_TEST_SCALE", "1"))
"""How many times the usual number of random cases the suites try; set by the environment for a longer search."""
