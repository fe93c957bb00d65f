# ruff: noqa: E501
"""Queries that are refused, with the place; and what no accepted query does, on random queries and rows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.definitions.query_checks import query_problems
from headwater.definitions.source import Source
from headwater.definitions.view_tables import ViewTable
from headwater.testing import rounds

place = hw.Entity("place", join_keys={"k": hw.Int64})
w = hw.FeatureView("w", entity=place, source=hw.PushSource(event_time="t"), features=[hw.Feature("x", hw.Int64)])
f = hw.ParquetSource("f.parquet", event_time="t", created_time="c")
plain = hw.ParquetSource("plain.parquet", event_time="t")
COLUMNS = {"f.parquet": ("k", "t", "c", "z"), "plain.parquet": ("k", "t", "q")}


def columns(source: Source) -> tuple[str, ...] | None:
    return tuple(source.columns) if isinstance(source, ViewTable) else COLUMNS[source.location]


def problems(query: str, *, event_time: str | None = "event_time", created_time: str | None = "known_at") -> list[str]:
    tables = {"w": w, "f": f, "plain": plain}
    source = hw.SQLSource(query, tables=tables, event_time=event_time, created_time=created_time)
    return list(query_problems(source, columns))


W = "SELECT k, event_time, known_at, x FROM w"
REFUSED = {
    "now": (
        "SELECT k, event_time, known_at, ^now() AS x FROM w",
        "now() is another time at each run",
    ),
    "today": (
        "SELECT k, event_time,\n  known_at, ^current_date AS x FROM w",
        "is another time at each run",
    ),
    "random": (
        "SELECT k, event_time, known_at,\n x + ^random() AS x\nFROM w",
        "is random",
    ),
    "uuid": (
        "SELECT k, event_time, known_at, ^uuid() AS x FROM w",
        "is random",
    ),
    "age": (
        "SELECT k, event_time, known_at, ^age(event_time) AS x FROM w",
        "counts from today",
    ),
    "sample": (
        "SELECT k, event_time, known_at, x FROM w ^USING SAMPLE 10 ROWS",
        "a sample is random",
    ),
    "first": (
        "SELECT k, max(event_time) AS event_time, max(known_at) AS known_at, ^first(x) AS x FROM w GROUP BY k",
        "write first(x ORDER BY …, x)",
    ),
    "any_value": (
        "SELECT k, max(event_time) AS event_time, max(known_at) AS known_at, ^any_value(x) AS x FROM w GROUP BY k",
        "any_value() depends on the order",
    ),
    "array_agg": (
        "SELECT k, max(event_time) AS event_time, max(known_at) AS known_at, ^array_agg(x) AS x FROM w GROUP BY k",
        "array_agg() depends on the order",
    ),
    "string_agg": (
        "SELECT k, max(event_time) AS event_time, max(known_at) AS known_at,\n ^string_agg(x, ',') AS x FROM w GROUP BY k",
        "string_agg() depends on the order",
    ),
    "arg_max": (
        "SELECT k, max(event_time) AS event_time, max(known_at) AS known_at, ^arg_max(x, event_time) AS x FROM w GROUP BY k",
        "write first(x ORDER BY event_time DESC, x)",
    ),
    "tie in an aggregate": (
        "SELECT k, max(event_time) AS event_time, max(known_at) AS known_at, ^first(x ORDER BY event_time) AS x FROM w GROUP BY k",
        "write first(x ORDER BY …, x)",
    ),
    "limit": (
        "SELECT k, event_time, known_at, x FROM w ^LIMIT 3",
        "LIMIT needs an ORDER BY: add k, event_time, known_at, x",
    ),
    "limit with ties": (
        "SELECT k, event_time, known_at, x FROM w ORDER BY event_time, k\n^LIMIT 3",
        "LIMIT leaves rows that tie in any order: add known_at, x",
    ),
    "distinct on": (
        "SELECT ^DISTINCT ON (k) k, event_time, known_at, x FROM w ORDER BY k, event_time",
        "add known_at, x",
    ),
    "row_number": (
        "SELECT k, event_time, max(known_at) OVER v AS known_at, x FROM w WINDOW v AS (PARTITION BY k ORDER BY event_time)\nQUALIFY ^row_number() OVER v = 1",
        "add x to its ORDER BY",
    ),
    "rows between": (
        "SELECT k, event_time, known_at, ^sum(x) OVER (ORDER BY event_time ROWS 2 PRECEDING) AS x FROM w",
        "sum() OVER leaves rows that tie in any order",
    ),
    "positional join": (
        "SELECT k, event_time, known_at, x FROM w POSITIONAL JOIN ^plain",
        "POSITIONAL JOIN",
    ),
    "as-of join": (
        "SELECT f.k, f.t AS event_time, GREATEST(f.c, w.known_at) AS known_at, x FROM f ASOF JOIN ^w USING (k, event_time)",
        "ASOF JOIN takes any of the rows of w that tie",
    ),
    "another time": (
        "SELECT k, event_time, ^event_time AS known_at, x FROM w",
        "write w.known_at",
    ),
    "earlier": (
        "SELECT k, event_time, ^known_at - INTERVAL 1 HOUR AS known_at, x FROM w",
        "write w.known_at",
    ),
    "negative interval": (
        "SELECT k, event_time, ^known_at + INTERVAL '-1 hour' AS known_at, x FROM w",
        "write w.known_at",
    ),
    "truncated": (
        "SELECT k, event_time, ^date_trunc('day', known_at) AS known_at, x FROM w",
        "write w.known_at",
    ),
    "least": (
        "SELECT f.k, f.t AS event_time, ^LEAST(f.c, w.known_at) AS known_at, x FROM f JOIN w USING (k)",
        "write GREATEST(f.c, w.known_at)",
    ),
    "one of two": (
        "SELECT f.k, f.t AS event_time,\n ^f.c AS known_at, x FROM f JOIN w ON f.k = w.k",
        "may be earlier than w.known_at: a row would be known before what it was made of; write GREATEST(f.c, w.known_at)",
    ),
    "coalesce": (
        "SELECT f.k, f.t AS event_time, ^COALESCE(w.known_at, f.c) AS known_at, x FROM f LEFT JOIN w ON f.k = w.k",
        "may be earlier than f.c",
    ),
    "group": (
        "SELECT k, max(event_time) AS event_time, ^min(known_at) AS known_at, sum(x) AS x FROM w GROUP BY k",
        "write MAX(w.known_at)",
    ),
    "some of a group": (
        "SELECT k, max(event_time) AS event_time, ^max(known_at) FILTER (x > 1) AS known_at, sum(x) AS x FROM w GROUP BY k",
        "write MAX(w.known_at)",
    ),
    "window": (
        "SELECT k, event_time, ^known_at, sum(x) OVER (PARTITION BY k ORDER BY event_time) AS x FROM w",
        "write GREATEST(w.known_at, MAX(w.known_at) OVER (PARTITION BY k ORDER BY event_time))",
    ),
    "lead": (
        "SELECT k, event_time, ^max(known_at) OVER v AS known_at, lead(known_at) OVER v AS x FROM w WINDOW v AS (PARTITION BY k ORDER BY event_time, known_at, x)",
        "MAX(w.known_at) OVER (PARTITION BY k)",
    ),
    "frame without the row": (
        "SELECT k, event_time, ^max(known_at) OVER v AS known_at, sum(x) OVER v AS x FROM w WINDOW v AS (PARTITION BY k ORDER BY event_time, known_at, x ROWS BETWEEN 2 PRECEDING AND 1 PRECEDING)",
        "GREATEST(w.known_at, ",
    ),
    "union": (
        "SELECT k, event_time, known_at, x FROM w\nUNION ALL\nSELECT k, t, ^t, z FROM f",
        "write f.c",
    ),
    "exists": (
        "SELECT k, t AS event_time, c AS known_at, z FROM f WHERE EXISTS (SELECT 1 FROM ^w WHERE w.k = f.k)",
        "cannot be read in EXISTS",
    ),
    "in": (
        "SELECT k, t AS event_time, c AS known_at, z FROM f\nWHERE k IN (SELECT k FROM ^w)",
        "cannot be read in IN",
    ),
    "not in": (
        "SELECT k, t AS event_time, c AS known_at, z FROM f\nWHERE k NOT IN (SELECT k FROM ^w)",
        "cannot be read in IN",
    ),
    "scalar": (
        "SELECT k, t AS event_time, c AS known_at, (SELECT max(x) FROM ^w) AS z FROM f",
        "cannot be read in a scalar subquery",
    ),
    "except": (
        "SELECT k, t AS event_time, c AS known_at, z FROM f ^EXCEPT SELECT k, event_time, known_at, x FROM w",
        "EXCEPT chooses rows by others",
    ),
    "intersect": (
        "SELECT k, t AS event_time, c AS known_at, z FROM f ^INTERSECT SELECT k, event_time, known_at, x FROM w",
        "INTERSECT chooses rows",
    ),
    "anti join": (
        "SELECT k, t AS event_time, c AS known_at, z FROM f ANTI JOIN ^w USING (k)",
        "ANTI JOIN",
    ),
    "semi join": (
        "SELECT k, t AS event_time, c AS known_at, z FROM f SEMI JOIN ^w USING (k)",
        "SEMI JOIN",
    ),
    "offset": (
        "SELECT k, event_time, known_at, x FROM w ORDER BY ALL LIMIT 3 ^OFFSET 1",
        "OFFSET leaves out rows by others",
    ),
    "natural join": (
        "SELECT k, event_time, known_at, x FROM plain NATURAL JOIN ^w",
        "NATURAL joins by the columns",
    ),
    "pivot": (
        "SELECT k, event_time, known_at FROM (^PIVOT w ON x USING count(*))",
        "PIVOT and UNPIVOT of rows",
    ),
    "subquery": (
        "SELECT k, event_time, ^e AS known_at, x FROM (SELECT k, event_time, event_time AS e, x FROM w) d",
        "reads d, which gives no created time",
    ),
    "recursive": (
        "WITH RECURSIVE ^r AS (SELECT k, event_time, known_at, x FROM w UNION ALL SELECT r.k, r.event_time, r.known_at, r.x + 1 FROM r JOIN w USING (k)) SELECT * FROM r",
        "r reads itself",
    ),
    "by text": (
        "SELECT k, event_time, known_at, x FROM ^query_table('w')",
        "names tables in a text",
    ),
}
"""Name → the query, `^` before the place that is named, and a part of what is said."""


@pytest.mark.parametrize("name", REFUSED)
def test_a_query_is_refused_with_its_place(name: str) -> None:
    marked, text = REFUSED[name]
    before, _, after = marked.partition("^")
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    found = problems(before + after)
    assert any(f"source.query: line {line}, column {column}: " in problem and text in problem for problem in found), (
        found
    )


ACCEPTED = {
    "projection": W,
    "star": "SELECT * FROM w",
    "later": "SELECT k, event_time, known_at + INTERVAL 1 HOUR AS known_at, x FROM w",
    "point in time": "SELECT f.k, f.t AS event_time, GREATEST(f.c, l.known_at) AS known_at, x FROM f ASOF LEFT JOIN "
    "(SELECT DISTINCT ON (k, event_time) k, event_time, known_at, x FROM w ORDER BY k, event_time, known_at DESC, x) l "
    "ON f.k = l.k AND f.t >= l.event_time",
    "point in time of a group": "WITH l AS (SELECT k, event_time, max(known_at) AS known_at, avg(x) AS x FROM w GROUP BY 1, 2) "
    "SELECT f.k, f.t AS event_time, GREATEST(f.c, l.known_at) AS known_at, x FROM f ASOF JOIN l "
    "ON f.k = l.k AND f.t >= l.event_time",
    "coalesce": "SELECT f.k, f.t AS event_time, GREATEST(f.c, COALESCE(w.known_at, f.c)) AS known_at, x FROM f LEFT JOIN w "
    "ON f.k = w.k",
    "group": "SELECT k, date_trunc('day', event_time) AS event_time, MAX(known_at) AS known_at, sum(x) AS x FROM w GROUP BY ALL",
    "two in a group": "SELECT f.k, max(f.t) AS event_time, GREATEST(MAX(f.c), MAX(w.known_at)) AS known_at, sum(x) AS x FROM f "
    "JOIN w USING (k) GROUP BY f.k",
    "window": "SELECT k, event_time, MAX(known_at) OVER v AS known_at, sum(x) OVER v AS x FROM w WINDOW v AS (PARTITION BY k "
    "ORDER BY event_time)",
    "lead": "SELECT k, event_time, max(known_at) OVER (PARTITION BY k) AS known_at, x, lead(x) OVER (PARTITION BY k ORDER BY "
    "event_time, known_at, x) AS y FROM w",
    "newest": "SELECT k, event_time, max(known_at) OVER v AS known_at, x FROM w WINDOW v AS (PARTITION BY k ORDER BY event_time "
    "DESC, known_at DESC, x DESC) QUALIFY row_number() OVER v = 1",
    "union": W + " UNION ALL SELECT k, t, c, z FROM f UNION ALL SELECT k, t, t, q FROM plain",
    "cte": f"WITH a AS ({W}), b AS (SELECT * FROM a WHERE x > 1) SELECT * FROM b",
    "lateral": "SELECT f.k, f.t AS event_time, GREATEST(f.c, l.m) AS known_at, l.x FROM f, LATERAL (SELECT max(known_at) AS m, "
    "sum(x) AS x FROM w WHERE w.k = f.k AND w.event_time <= f.t) l",
    "limit": W + " ORDER BY ALL LIMIT 3",
    "first": "SELECT k, max(event_time) AS event_time, max(known_at) AS known_at, first(x ORDER BY event_time DESC, x) AS x "
    "FROM w GROUP BY k",
    "in a list": W + " WHERE x IN (1, 2)",
    "sources without times elsewhere": W + " WHERE k IN (SELECT k FROM plain)",
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_query_is_accepted(name: str) -> None:
    assert problems(ACCEPTED[name]) == []


def test_times_that_the_source_does_not_name() -> None:
    assert "has no event time" in problems(W, event_time=None)[0]
    assert "created_time='known_at'" in problems(W, created_time=None)[0]
    assert problems("SELECT k, t AS event_time, q FROM plain", created_time=None) == []
    assert "created_time=" in problems("SELECT k, t AS event_time, z FROM f", created_time=None)[0]


# no accepted query knows a row before what it was made of, nor depends on the order of rows

TIMES = ["known_at", "w.known_at", "f.c", "event_time", "GREATEST(f.c, w.known_at)", "COALESCE(w.known_at, f.c)",
         "GREATEST(w.known_at, v.known_at)", "GREATEST(f.c, COALESCE(w.known_at, 0))", "LEAST(f.c, w.known_at)"]  # fmt: skip
OVERS = [
    "(PARTITION BY w.k)",
    "(PARTITION BY w.k ORDER BY event_time)",
    "(PARTITION BY w.k ORDER BY event_time, w.known_at, w.x)",
    "(PARTITION BY w.k ORDER BY event_time, w.known_at, w.x ROWS BETWEEN 2 PRECEDING AND 1 PRECEDING)",
    "(ORDER BY event_time DESC, w.known_at, w.x, w.k)",
]
FUNCTIONS = ["sum(w.x)", "lag(w.x)", "lead(w.x)", "row_number()", "rank()", "first_value(w.x)", "count(*)"]
LAST_OF_EACH = (
    "(SELECT DISTINCT ON (k, event_time) k, event_time, known_at, x FROM w ORDER BY k, event_time, known_at, x)"
)
FROMS = {
    "w": ("w", "w.k", "w.event_time", "w.x"),
    "last": (f"f ASOF LEFT JOIN {LAST_OF_EACH} AS w ON f.k = w.k AND f.t >= w.event_time", "f.k", "f.t", "w.x"),
    "asof": ("f ASOF LEFT JOIN w ON f.k = w.k AND f.t >= w.event_time", "f.k", "f.t", "w.x"),
    "left": ("f LEFT JOIN w ON f.k = w.k AND f.t > w.event_time", "f.k", "f.t", "w.x + f.z"),
    "inner": ("f JOIN w USING (k)", "f.k", "f.t", "w.x"),
    "itself": ("w JOIN w AS v ON w.k = v.k AND w.event_time >= v.event_time", "w.k", "w.event_time", "v.x"),
    "inside": ("(SELECT k, event_time, known_at, x FROM w WHERE x > 0) AS w", "w.k", "w.event_time", "w.x"),
}


@st.composite
def queries(draw: Any) -> str:
    tables, k, event, x = FROMS[draw(st.sampled_from(sorted(FROMS)))]
    right = "w.known_at" if event != "f.t" else "GREATEST(f.c, w.known_at)"
    time = draw(st.sampled_from([*TIMES, *[right] * 12]))
    form = draw(st.sampled_from(["row", "row", "group", "window", "window", "union", "limit", "newest", "nested"]))
    if form == "group":
        outer = draw(st.sampled_from(["MAX", "MAX", "MIN"]))
        inner = f"{outer}({time})" if draw(st.booleans()) else f"GREATEST(MAX(f.c), {outer}(w.known_at))"
        value = draw(st.sampled_from([f"sum({x})", f"first({x})", f"first({x} ORDER BY {x})", f"array_agg({x})"]))
        return (
            f"SELECT {k} AS k, max({event}) AS event_time, {inner} AS known_at, {value} AS x FROM {tables} GROUP BY {k}"
        )
    row = f"SELECT {k} AS k, {event} AS event_time, {time} AS known_at, {x} AS x FROM {tables}"
    if form == "window":
        over, other = draw(st.sampled_from(OVERS)), draw(st.sampled_from(OVERS))
        made = draw(st.sampled_from([f"MAX({time}) OVER {over}", f"GREATEST({time}, MAX({time}) OVER {other})"]))
        value = f"{draw(st.sampled_from(FUNCTIONS))} OVER {over}"
        return f"SELECT {k} AS k, {event} AS event_time, {made} AS known_at, w.x AS y, {value} AS x FROM {tables}"
    if form == "newest":
        over = draw(st.sampled_from(OVERS))
        made = draw(st.sampled_from([time, f"MAX({time}) OVER {over}"]))
        row = f"SELECT {k} AS k, {event} AS event_time, {made} AS known_at, w.x AS x FROM {tables}"
        return f"{row} QUALIFY row_number() OVER {over} = {draw(st.sampled_from([1, 2]))}"
    if form == "union":
        kind = draw(st.sampled_from(["UNION ALL", "UNION", "EXCEPT"]))
        return f"{row} {kind} SELECT k, t, {draw(st.sampled_from(['c', 't']))}, z FROM f"
    if form == "limit":
        return f"{row} ORDER BY {draw(st.sampled_from(['ALL', 'x', 'x, k', '1, 2, 3, 4']))} LIMIT 2"
    if form == "nested":
        again = draw(st.sampled_from(["known_at", "event_time", "MAX(known_at) OVER (PARTITION BY k)"]))
        return f"WITH d AS ({row}) SELECT k, event_time, {again} AS known_at, x FROM d WHERE x > 0"
    return row


times = st.integers(0, 4)
rows_w = st.lists(st.tuples(st.integers(1, 2), times, times, st.integers(0, 2)), max_size=5)
rows_f = st.lists(st.tuples(st.integers(1, 2), times, times, st.integers(0, 2)), max_size=4)


def table(name: str, columns: str, rows: list[Any]) -> str:
    """A table of integers for WITH."""
    listed = ", ".join(map(str, rows)) or "(0, 0, 0, 0)"
    return f"{name}({columns}) AS (SELECT * FROM (VALUES {listed}) {'' if rows else 'LIMIT 0'})"


def answer(base: duckdb.DuckDBPyConnection, query: str, mine: list[Any], theirs: list[Any]) -> Counter[Any]:
    given = f"{table('w', 'k, event_time, known_at, x', mine)}, {table('f', 'k, t, c, z', theirs)}"
    found = base.execute(f"WITH {given} SELECT * FROM ({query})")
    names = [column[0] for column in found.description or ()]
    return Counter((row[names.index("known_at")], str(row)) for row in found.fetchall())


@settings(max_examples=rounds(40), deadline=None, suppress_health_check=list(HealthCheck))
@given(query=queries(), mine=rows_w, theirs=rows_f)
def test_no_row_of_an_accepted_query_is_known_before_its_inputs(query: str, mine: list[Any], theirs: list[Any]) -> None:
    assume(not problems(query))
    with duckdb.connect(config={"threads": 1}) as base:
        try:
            every = answer(base, query, mine, theirs)
        except duckdb.Error:
            assume(False)
            return
        for t in range(5):
            known = answer(base, query, [row for row in mine if row[2] <= t], [row for row in theirs if row[2] <= t])
            for (at, row), count in every.items():
                if at is not None and at <= t:
                    assert known[at, row] >= count, (t, row)
        assert answer(base, query, mine[::-1], theirs[::-1]) == every


SPARK = {
    "SELECT k, ts, rand() AS x FROM rides": "rand() is random",
    "SELECT k, current_timestamp() AS ts, x FROM rides": "current_timestamp() is another time at each run",
    "SELECT k, ts, uuid() AS x FROM rides": "uuid() is random",
    "SELECT k, ts, monotonically_increasing_id() AS x FROM rides": "how Spark divides the rows",
    "SELECT k, ts, x FROM rides TABLESAMPLE (10 PERCENT)": "a sample is random",
}


@pytest.mark.parametrize("query", SPARK)
def test_a_query_of_spark_s_own_that_is_something_else_at_each_run_is_refused(query):
    told = list(query_problems(hw.SparkSource(query=query, event_time="ts"), columns))
    assert len(told) == 1 and SPARK[query] in told[0] and "line 1" in told[0]
    fine = "SELECT k, ts, hash(x) AS x, max(y) OVER (PARTITION BY k ORDER BY ts) AS y FROM db.rides WHERE x > 1"
    assert not list(query_problems(hw.SparkSource(query=fine, event_time="ts"), columns))
