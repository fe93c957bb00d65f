"""Queries in DuckDB's dialect for Spark: what could mean something else there is refused, with its place.

That the others give DuckDB's values: `tests/conformance/test_spark_queries.py`.
"""

import pyarrow as pa
import pytest

from headwater.errors import SourceError
from headwater.offline.engines.spark.transpiled import transpiled

OWN = pa.schema(
    [
        *(("k", pa.int64()), ("n", pa.int32()), ("x", pa.float64()), ("r", pa.float32()), ("s", pa.string())),
        *(("t", pa.timestamp("us", "UTC")), ("Day", pa.date32()), ("d", pa.decimal128(10, 2)), ("row", pa.int64())),
        ("a", pa.list_(pa.int64())),
    ]
)
TABLES = {"own": ("hw_query_1", OWN)}
REFUSED = {
    "round(x)": 8,
    "lower(s)": 8,
    "k, x / n": 11,
    "n // 2": 8,
    "d * 2": 8,
    "r + 1": 8,
    "t::VARCHAR": 8,
    "x::BIGINT": 8,
    "s::DOUBLE": 8,
    "k, epoch(t)": 11,
    "k, s LIKE 'a%'": 11,
    "regexp_matches(s, 'a')": 8,
    "date_part('week', t)": 8,
    "t - t": 8,
    "s > 1": 8,
    "list_value(k)": 8,
    "first_value(x) OVER (ORDER BY row)": 8,
    "sum(d)": 8,
    "count(*) FILTER (WHERE n > 0) OVER (PARTITION BY k)": 8,
    "if(x > 1, row, r)": 8,
    "if(x > 1, n, s)": 8,
    "n / 'two'": 8,
}


@pytest.mark.parametrize("value", REFUSED)
def test_what_could_mean_something_else_is_refused_with_its_place(value):
    with pytest.raises(SourceError, match=rf"line 1, column {REFUSED[value]}: .*: Spark and DuckDB could"):
        transpiled(f"SELECT {value} AS v FROM own", TABLES)


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("SELECT k\nFROM own ORDER BY t LIMIT 3", "has LIMIT"),
        ("SELECT DISTINCT ON (k) k FROM own", "has ON"),
        ("SELECT a.k FROM own a ASOF JOIN own b ON a.k = b.k AND a.t >= b.t", "another kind of join"),
        ("SELECT k, (SELECT max(x) FROM own) AS m FROM own", "a query in place of a value"),
        ("SELECT k, x FROM own QUALIFY row_number() OVER (PARTITION BY k ORDER BY t) = 1", "has QUALIFY"),
        ("SELECT k FROM own GROUP BY ROLLUP (k)", "ROLLUP"),
        ("SELECT row AS v FROM own UNION ALL SELECT r FROM own", "mixes types"),
        ("SELECT t AS v FROM own UNION ALL SELECT '2026-01-31' FROM own", "mixes types"),
        ("SELECT NULL AS v FROM own UNION SELECT n FROM own UNION (SELECT s FROM own)", "mixes types"),
        ("SELECT k FROM own WHERE row IN (SELECT r FROM own)", "mixes types"),
        ("SELECT k FROM own WHERE (k, row) IN (SELECT k, s FROM own)", "mixes types"),
        ("SELECT k FROM own WHERE x > 1 AND\n  list_contains(a, 1)", "line 2, column 3"),
    ],
)
def test_so_are_parts_of_a_query(query, place):
    with pytest.raises(SourceError, match=place):
        transpiled(query, TABLES)


def test_names_are_as_they_are_written():
    query = "SELECT day, K AS Key, x FROM own WHERE Key > 1"
    assert transpiled(query, TABLES) == (
        "WITH `own` AS (SELECT * FROM `hw_query_1`) SELECT q.`day` AS `Day`, q.`key` AS `Key`, q.`x` AS `x` FROM "
        "(SELECT `own`.`day` AS `day`, `own`.`k` AS `key`, `own`.`x` AS `x` FROM `own` AS `own` WHERE `own`.`k` > 1) "
        "AS q"
    )


def test_a_column_that_is_not_there():
    with pytest.raises(SourceError, match="Column 'nope' could not be resolved"):
        transpiled("SELECT k, nope FROM own", TABLES)
