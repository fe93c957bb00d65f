"""The kernel beside the brute-force reference with many events a key, up to all of them late: no structure is small."""

from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from headwater.definitions.aggregation import Aggregation
from headwater.offline.windows.kernel import part_answer
from headwater.planning.windows.columns import Column
from headwater.planning.windows.layout import window_layout
from headwater.planning.windows.statements import Statements
from headwater.planning.windows.values import stored_form
from headwater.testing import SCALE
from headwater.testing.window_oracle import Statement, WindowRequest, agrees, window_answer
from headwater.types import Float64, Int64, String

COLUMNS = {"x": Float64, "n": Int64, "s": String}
FUNCTIONS: list[tuple[str | None, str, dict[str, Any]]] = [
    (None, "count", {}),
    ("x", "sum", {}),
    ("x", "mean", {}),
    ("x", "var_pop", {}),
    ("x", "stddev_samp", {}),
    ("x", "min", {}),
    ("x", "max", {}),
    ("n", "sum", {}),
    ("s", "first", {}),
    ("x", "last", {}),
    ("s", "max", {}),
    ("n", "last_n", {"n": 4}),
    ("s", "first_n", {"n": 3}),
    ("n", "last_n_distinct", {"n": 5}),
    ("n", "count_distinct", {"max_distinct": 16}),
    ("s", "count_distinct", {"max_distinct": 1_000}),
    ("x", "quantile", {"q": 0.3}),
    (None, "seconds_since_last", {}),
]
KEYS = 2


def micros(number: int) -> timedelta:
    return timedelta(microseconds=number)


@pytest.mark.parametrize("late", [0.0, 0.02, 1.0])
@pytest.mark.parametrize("seed", range(SCALE))
def test_many_events_a_key(late, seed):
    rng = np.random.default_rng(seed)
    size, span = 700, 5_000
    event = rng.integers(-span, span, size)
    created = event + np.where(rng.random(size) < late, rng.integers(0, 4_000, size), rng.integers(-3, 20, size))
    key, n = rng.integers(0, KEYS, size), rng.integers(0, 60, size)
    x = np.where(rng.random(size) < 0.9, rng.normal(1e6, 1, size), rng.normal(0, 1e-3, size))
    s = [f"v{number}" for number in rng.integers(0, 30, size)]
    null = rng.random(size) < 0.1
    rows = [
        Statement(
            (int(key[i]),),
            {"x": None if null[i] else float(x[i]), "n": int(n[i]), "s": s[i]},
            int(event[i]),
            int(created[i]),
            True,
            i + 1,
        )
        for i in range(size)
    ]
    windows = [(None, {}), (micros(900), {"hop": micros(60)}), (micros(7_000), {"hop": micros(100)})]
    windows.append((micros(2_000), {"hop": micros(50), "offset": micros(333)}))
    aggregations = [
        Aggregation(column, function, window, name=f"{column}_{function}_{i}", **options, **more)
        for i, (window, more) in enumerate(windows)
        for column, function, options in FUNCTIONS
    ]
    layout = window_layout(aggregations, COLUMNS)
    statements = Statements(
        key,
        event,
        created,
        np.ones(size, bool),
        np.arange(1, size + 1),
        {name: Column.of(pa.array([row.values[name] for row in rows], d.arrow), d) for name, d in COLUMNS.items()},
    )
    asked, at = rng.integers(0, KEYS, 5), rng.integers(-span, span + 4_000, 5)
    found = part_answer(layout, layout.features, statements, None, KEYS, asked, at)
    for given, feature, answer in zip(aggregations, layout.features, found.features, strict=True):
        window = feature.window
        request = WindowRequest(
            feature.function,
            given.column,
            feature.column,
            window.width,
            window.hop,
            window.offset,
            n=feature.n,
            q=feature.q or 0.0,
            max_distinct=feature.n,
        )
        values = answer.arrow().to_pylist()
        for i, value in enumerate(values[place] for place in np.argsort(found.rows)):
            right = window_answer(request, rows, [], (int(asked[i]),), int(at[i]))
            stored = stored_form(feature.dtype, value)
            assert (stored is None) == (right.value is None), (feature, i)
            assert stored is None or agrees(right, stored), (feature, i, stored, right)
