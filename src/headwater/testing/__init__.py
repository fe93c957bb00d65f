"""What proves a store, an engine or a registry: conformance suites, the oracle, strategies (extra `testing`)."""

from __future__ import annotations

import os
from typing import TypeVar

from headwater.errors import MissingExtra

try:
    import pytest
    from hypothesis import strategies as st
except ImportError as missing:
    raise MissingExtra("headwater.testing needs pytest and hypothesis: pip install 'headwater[testing]'") from missing

_T = TypeVar("_T")
_SUITES = (
    *("lives", "log", "log_delete", "log_restore", "offline", "online", "read", "refill", "own_tables"),
    *("registry", "shared", "shared_registry"),
)
pytest.register_assert_rewrite(*(f"headwater.testing.{name}_suite" for name in _SUITES))
pytest.register_assert_rewrite(
    "headwater.testing.engine_probes", "headwater.testing.offline_checks", "headwater.testing.zones"
)

SCALE = int(os.environ.get("HEADWATER_TEST_SCALE", "1"))
"""How many times the usual number of random cases the suites try; set by the environment for a longer search."""

PART = int(os.environ.get("HEADWATER_TEST_PART", "4"))
"""One in how many of the cases is tried in a run for every change."""


def rounds(usual: int, *, simplest: bool = True) -> int:
    """How many random cases of a property are tried.

    A run for every change tries a quarter of them (`PART`), and each run others; a longer search (`SCALE`) tries all,
    so many times over.

    Args:
        usual: the number of cases that shows the faults that the property is for, as a rule.
        simplest: whether the simplest case is among them, with which hypothesis always begins: it is the same in each
            run, so another is tried at least. `RANDOM` leaves it out.

    Returns:
        The number of cases, at least 1.
    """
    if SCALE > 1:
        return usual * SCALE
    return -(-usual // PART) + (1 if simplest and usual <= PART else 0)


RANDOM = st.integers(0, 1 << 16).filter(bool)
"""Drawn beside what a case is of: the simplest case, where it is 0, is none, and costs no time."""


def not_simplest(cases: st.SearchStrategy[_T]) -> st.SearchStrategy[_T]:
    """The same cases without the simplest, for a property of few rounds (`rounds(n, simplest=False)`).

    Args:
        cases: the strategy of the cases.

    Returns:
        A strategy of the same cases, whose first round is not the simplest of them.
    """
    return st.tuples(RANDOM, cases).map(lambda drawn: drawn[1])
