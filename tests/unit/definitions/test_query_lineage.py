"""From which columns of which tables a query's column is computed."""

from __future__ import annotations

import pytest

from headwater.definitions.query_lineage import origins

TABLES = {"calls": ("k", "event_time", "known_at", "y"), "Temps": ("k", "event_time", "known_at", "x"), "files": None}
CASES = {
    "an expression": ("SELECT k, x * 2 AS z FROM temps", [("Temps", "x")]),
    "two tables": ("SELECT c.y + t.x AS z FROM calls c JOIN temps t USING (k)", [("calls", "y"), ("Temps", "x")]),
    "by way of a subquery": (
        "WITH d AS (SELECT k, x AS y FROM temps WHERE known_at > event_time) SELECT max(y) AS z FROM d GROUP BY k",
        [("Temps", "x")],
    ),
    "a union": ("SELECT y AS z FROM calls UNION ALL SELECT x FROM temps", [("calls", "y"), ("Temps", "x")]),
    "a star": ("SELECT *, x AS z FROM temps", [("Temps", "x")]),
    "a constant": ("SELECT 1 AS z FROM temps", []),
    "a window": ("SELECT sum(x) OVER (PARTITION BY k) AS z FROM temps", [("Temps", "k"), ("Temps", "x")]),
    "a table without columns": ("SELECT f.a AS z FROM files f", [("files", "a")]),
    "no such column": ("SELECT x FROM temps", None),
    "no query": ("SELECT FROM WHERE", None),
}


@pytest.mark.parametrize("name", CASES)
def test_a_column_comes_from(name: str) -> None:
    query, wanted = CASES[name]
    found = origins(query, "z", TABLES)
    assert (None if found is None else sorted(found)) == (None if wanted is None else sorted(wanted))
