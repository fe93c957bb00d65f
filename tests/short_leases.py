"""Runs whose leases are short, by a clock that goes on: for tests of what is done once a lease is over."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

import headwater as hw
from headwater.compute.settings import ComputeSettings
from headwater.online.meta import run_ends, run_ends_key

NOW = datetime(2024, 3, 10, 12, tzinfo=UTC)
LEASE = timedelta(seconds=6)
"""Of it the last two seconds are left to nobody."""
_BEGAN = datetime.now(UTC)


def ticking() -> datetime:
    """`NOW` and the seconds since this was imported."""
    return NOW + (datetime.now(UTC) - _BEGAN)


def shorten_leases(patch: pytest.MonkeyPatch) -> None:
    """Let runs of stores that are opened from now on have a lease of `LEASE`."""
    of = ComputeSettings.of.__func__  # type: ignore[attr-defined]
    patch.setattr(ComputeSettings, "of", classmethod(lambda cls, given: replace(of(cls, given), lease_time=LEASE)))


def run_key(store: hw.FeatureStore, view: str) -> bytes:
    """Where the online store holds until when the processes of runs of a view (1.0.0) may put rows."""
    return run_ends_key(store.context.project, view, "1.0.0")


def end_of_run(store: hw.FeatureStore, view: str) -> float:
    """When the processes of the one run of a view (1.0.0) have to have ended by themselves, seconds since 1970."""
    (data,) = store.context.online.multi_get([run_key(store, view)])
    (end,) = run_ends(data).values()
    return end / 1e6
