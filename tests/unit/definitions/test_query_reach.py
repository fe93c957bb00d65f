# ruff: noqa: E501
"""Every table and SELECT of a query is looked at, wherever it stands; every function that DuckDB says changes is refused."""

from __future__ import annotations

import duckdb
import pytest
import sqlglot
from sqlglot import exp

import headwater as hw
from headwater.definitions.query_checks import query_problems
from headwater.definitions.query_known import QueryReading
from headwater.definitions.query_scopes import Rows

timed = hw.ParquetSource("v.parquet", event_time="t", created_time="c")
plain = hw.ParquetSource("p.parquet", event_time="t")
NAMES = {"v.parquet": ("k", "t", "c", "x"), "p.parquet": ("k", "t", "y")}


def problems(query: str, *, created_time: str | None = "c") -> list[str]:
    source = hw.SQLSource(query, tables={"v": timed, "p": plain}, event_time="t", created_time=created_time)
    return list(query_problems(source, lambda table: NAMES[table.location]))


HIDDEN = {
    "UNNEST in FROM": "SELECT k, t, t AS c FROM p, unnest((SELECT list(x ORDER BY x) FROM v)) AS u(z)",
    "lateral UNNEST": "SELECT k, t, t AS c FROM p, LATERAL unnest((SELECT list(x ORDER BY x) FROM v)) AS u(z)",
    "VALUES": "SELECT k, t, t AS c FROM p, (VALUES ((SELECT max(x) FROM v))) AS u(z)",
    "ORDER BY of a UNION": "SELECT k, t, c FROM v UNION ALL SELECT k, t, c FROM v ORDER BY (SELECT max(x) FROM v)",
    "OFFSET behind parentheses": "(SELECT k, t, c FROM v) ORDER BY k, t, c OFFSET 1",
    "OFFSET inside": "SELECT k, t, c FROM ((SELECT k, t, c FROM v) ORDER BY k, t, c OFFSET 1) AS z",
    "PIVOT": "PIVOT (SELECT k, t, c, x FROM v) ON x USING max(c)",
    "with its schema": "SELECT k, t, t AS c FROM main.v",
    "with its schema, beside a WITH of its name": "WITH v AS (SELECT k, t, t AS c FROM p) SELECT k, t, t AS c FROM main.v",
    "two without alias": "SELECT k, t, t AS c FROM (SELECT x, c AS other FROM v), (SELECT k, t FROM p)",
    "a join in parentheses": "SELECT k, t, t AS c FROM ((SELECT k, t FROM p) AS z JOIN v USING (k))",
    "a struct's star": "SELECT k, t, z.* FROM (SELECT k, t, {'c': t} AS z, c AS other FROM v)",
    "a struct's columns": "SELECT k, t, unnest({'c': t}) FROM v",
    "a struct's columns, with the schema of the function": "SELECT k, t, main.unnest({'c': t}) FROM v",
    "a name given twice": "SELECT t AS c, k, t, c FROM v",
    "a name given twice, the true one first": "SELECT k, t, c, t AS c FROM v",
}
SEEN = {
    "parentheses": "(SELECT k, t, c FROM v)",
    "parentheses inside": "SELECT k, t, c FROM ((SELECT k, t, c FROM v)) AS z",
    "its schema": "SELECT k, t, c FROM main.v",
    "without alias": "SELECT k, t, c FROM (SELECT k, t, c FROM v)",
    "UNNEST of a list": "SELECT k, t, c, unnest([1, 2]) AS z FROM v",
    "a star of another": "SELECT k, t, c, q.* FROM v, (SELECT 1 AS one) AS q",
    "WITH before parentheses": "WITH z AS (SELECT k, t, c FROM v) (SELECT k, t, c FROM z)",
}


@pytest.mark.parametrize("name", HIDDEN)
def test_rows_with_a_created_time_are_found_wherever_they_are_read(name: str) -> None:
    assert problems(HIDDEN[name]), HIDDEN[name]


@pytest.mark.parametrize("name", SEEN)
def test_where_the_created_time_is_told_nothing_is_refused(name: str) -> None:
    assert problems(SEEN[name]) == []


@pytest.mark.parametrize("query", [*HIDDEN.values(), *SEEN.values()])
def test_every_select_of_a_query_is_read(query: str) -> None:
    tree = sqlglot.parse_one(query, dialect="duckdb")
    reading = QueryReading(tree, {"v": Rows(NAMES["v.parquet"], ("c",), True), "p": Rows(NAMES["p.parquet"])})
    assert {id(scope.select) for scope in reading.scopes} == {id(select) for select in tree.find_all(exp.Select)}


@pytest.mark.parametrize(
    "query",
    [
        "(SELECT k, t FROM p) LIMIT 1",
        "SELECT * FROM ((SELECT k, t FROM p) LIMIT 1)",
        "SELECT k, t FROM ((SELECT k, t FROM p) ORDER BY k LIMIT 1) AS z",
        "SELECT k, t FROM p, unnest((SELECT list(y ORDER BY y) FROM (SELECT y FROM p LIMIT 1))) AS u(z)",
        "SELECT k, t, ARRAY(SELECT y FROM p) AS z FROM p",
        "SELECT k, t, ARRAY(SELECT y FROM p ORDER BY k) AS z FROM p",
        "PIVOT p ON k USING first(y) GROUP BY t",
        "SELECT * FROM p PIVOT (list(y) FOR k IN (1, 2))",
        "SELECT * FROM (SUMMARIZE p)",
        "SELECT k, t FROM query('SELECT random() AS k, t FROM p')",
        "SELECT k, t FROM p, information_schema.tables",
        "SELECT k, t, t.age() AS z FROM p",
        "SELECT k, t, main.age(t) AS z FROM p",
        "SELECT max(t) AS t, arg_max_nulls_last(k, y) AS k FROM p",
        "SELECT k, t, fill(y) OVER (ORDER BY t) AS y FROM p",
    ],
)
def test_what_is_not_deterministic_is_refused_wherever_it_stands(query: str) -> None:
    assert problems(query, created_time=None), query


@pytest.mark.parametrize(
    "query",
    [
        "(SELECT k, t FROM p) ORDER BY k, t LIMIT 1",
        "SELECT k, t, ARRAY(SELECT y FROM p ORDER BY y) AS z FROM p",
        "SELECT k, t, t.age(t) AS z, main.age(t, t) AS a FROM p",
        "PIVOT p ON k USING sum(y) GROUP BY t",
    ],
)
def test_what_an_order_decides_is_accepted(query: str) -> None:
    assert problems(query, created_time=None) == []


def test_every_function_that_duckdb_calls_changing_is_refused() -> None:
    found = duckdb.sql(
        """
        SELECT function_name, min(len(parameters)) FROM duckdb_functions()
        WHERE function_type IN ('scalar', 'aggregate') AND stability <> 'CONSISTENT' GROUP BY ALL
        """
    ).fetchall()
    assert len(found) > 10
    # `error` gives nothing at all
    passed = [
        name
        for name, count in found
        if name != "error"
        and not problems(f"SELECT k, t, {name}({', '.join(['y'] * count)}) AS z FROM p", created_time=None)
    ]
    assert passed == []


def test_macros_that_read_the_clock_are_refused() -> None:
    found = duckdb.sql(
        """
        SELECT DISTINCT function_name, len(parameters) FROM duckdb_functions()
        WHERE function_type = 'macro' AND regexp_matches(lower(macro_definition), 'current_|now\\(|random|uuid')
        """
    ).fetchall()
    passed = [
        name
        for name, count in found
        if not problems(f"SELECT k, t, {name}({', '.join(['y'] * count)}) AS z FROM p", created_time=None)
    ]
    assert passed == []
