"""One column of the log that two versions of a view read in different ways: what each takes online is its history."""

from __future__ import annotations

from datetime import timedelta
from itertools import combinations, permutations
from typing import Any

import pyarrow as pa
import pytest

import headwater as hw
from headwater.compute.reading.historical import historical
from headwater.testing import SCALE
from tests.unit.compute.conftest import AIRPORT, T0, Bench

EARLIER = T0 - timedelta(days=1)
VERSIONS = ("1.0.0", "2.0.0")
ROLES: dict[str, Any] = {
    "created": None,
    "text": hw.Feature("obs", hw.String),
    "whole": hw.Feature("obs", hw.Int64),
    "real": hw.Feature("obs", hw.Float64),
    "flag": hw.Feature("obs", hw.Bool),
    "time": hw.Feature("obs", hw.Timestamp),
}
PAIRS = (
    # every second two of them, in one order; in the long run all, in both
    [pair[:: 1 if n % 4 else -1] for n, pair in enumerate(combinations(ROLES, 2)) if n % 2 == 0]
    if SCALE == 1
    else list(permutations(ROLES, 2))
)
VALUES = [None, "fog", 5, 2.5, True, T0 - timedelta(hours=1)]


def view(role: str) -> hw.FeatureView:
    features = [hw.Feature("temp", hw.Float64)] + ([ROLES[role]] if ROLES[role] is not None else [])
    created = "obs" if ROLES[role] is None else None
    return hw.FeatureView(
        "w", entity=AIRPORT, source=hw.PushSource(event_time="at", created_time=created), features=features
    )


def history(bench: Bench, version: str, keys: list[str]) -> list[float | None]:
    spine = pa.table({"airport": keys, "timestamp": [bench.at + timedelta(days=1)] * len(keys)})
    found: list[float | None] = historical(bench.context, spine, [f"w@{version}:temp"]).to_arrow()["temp"].to_pylist()
    return found


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=str)
def test_each_version_has_online_what_its_history_has(bench: Bench, first: str, second: str) -> None:
    bench.apply(AIRPORT, view(first))
    bench.apply(AIRPORT, view(second))
    keys = [f"K{i}" for i in range(len(VALUES))]
    for key, value in zip(keys, VALUES, strict=True):
        bench.write("w", [{"airport": key, "at": EARLIER, "temp": 1.0, "obs": value}], errors="report")
    taken = [bench.values(f"w@{version}:temp", keys) for version in VERSIONS]
    # NULL fits every version
    assert [values[0] for values in taken] == [1.0, 1.0]
    assert [history(bench, version, keys) for version in VERSIONS] == taken
    assert not bench.materialize(force=True).problems
    # compacted
    assert [history(bench, version, keys) for version in VERSIONS] == taken
    assert [bench.values(f"w@{version}:temp", keys) for version in VERSIONS] == taken
    bench.delete("w", keys, purge=True)
    bench.pass_time(minutes=30)
    bench.materialize()
    assert bench.context.log.pending_purges() == [] and bench.context.log.slice("w", ["airport"]).parts == ()
