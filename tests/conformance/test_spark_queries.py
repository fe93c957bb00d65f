"""Queries over tables of Spark's and over views, in DuckDB's dialect: every value is that which DuckDB gives."""

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.errors import DefinitionError, SourceError
from tests.servers.spark import SAIL
from tests.spark_tables import placing

NOON = datetime(2026, 3, 10, 12, 30, 15, 250_000, tzinfo=UTC)
TIMES = [NOON, NOON - timedelta(days=1, hours=13), datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC), None]
ROWS = pa.table(
    {
        "k": pa.array([1, 1, 2, 2, 3, None, 3], pa.int64()),
        "n": pa.array([0, 3, -7, None, 700_000_000, 5, 1], pa.int32()),
        "x": pa.array([1.5, -0.0, math.nan, math.inf, None, 1e300, 0.1]),
        "r": pa.array([0.1, 1.5, math.nan, None, -2.25, 3.0, 0.0], pa.float32()),
        "s": pa.array(["", "a\\b'c", "Ärger", "\U0001f600x", None, "abc", "%_"]),
        "t": pa.array([*TIMES, NOON, NOON + timedelta(days=400), TIMES[1]], pa.timestamp("us", "UTC")),
        "Day": pa.array([date(2024, 2, 29), None, date(1969, 12, 31), date(2026, 1, 1)] + [date(2000, 1, 1)] * 3),
        "b": pa.array([True, False, None, True, False, None, True]),
        "d": pa.array([Decimal("1.10"), None, Decimal("-0.01")] + [Decimal("12345678.99")] * 4, pa.decimal128(10, 2)),
        "row": pa.array(range(7), pa.int64()),
    }
)
VALUES = [
    *("k + 1", "n - k", "n * 3", "-n", "k * n", "x * 1.5", "x + n", "r * r", "x - 0.1", "2 * x", "n * 1.5"),
    *("x / 2", "n / 4", "k / NULLIF(n, 0)", "x / NULLIF(n, 0)", "d / 3", "k % 7", "n % -3", "abs(x)", "abs(n)"),
    *("n > 0", "x = x", "x > 1", "r <= r", "s < 'b'", "s <> ''", "b = true"),
    *("n IS DISTINCT FROM k", "x IS NOT DISTINCT FROM x", "n IN (1, 3, NULL)", "s IN ('abc', '')", "n NOT IN (3)"),
    *("n BETWEEN 0 AND 5", "b AND n > 0", "b OR n > 0", "NOT b", "x IS NULL", "b IS TRUE"),
    *(
        "n / 3.0 / 7",
        "k * 2.5 / 4 / 3",
        "(n / 3.0 + 0.1) / 7",
        "1.0 / 3 / 3 + x / 2",
        "avg(n / 3.0) OVER (PARTITION BY k)",
    ),
    *("CASE WHEN n > 1 THEN x ELSE 0.5 END", "CASE k WHEN 1 THEN 'one' WHEN 2 THEN 'two' END", "if(b, n, k)"),
    *("coalesce(n, 1)", "coalesce(x, n, 0.5)", "nullif(n, 3)", "greatest(n, k)", "least(x, 1.0)", "greatest(x, x)"),
    *("s || '/' || s", "s || 'a\\b'", "length(s)", "substring(s, 1, 2)", "substring(s, 2)", "starts_with(s, 'a')"),
    *(f"date_trunc('{unit}', t)" for unit in ("year", "quarter", "month", "week", "day", "hour", "minute", "second")),
    *(f"extract({unit} FROM t)" for unit in ("year", "month", "day", "hour", "minute")),
    *("date_trunc('day', t) + INTERVAL 1 DAY", "extract(hour FROM t) + n", "length(s) * 2", "coalesce(n, 0) * x"),
    *("year(t)", "month(Day)", "day(t)", "t + INTERVAL 1 DAY", "t - INTERVAL 90 MINUTES", "t - INTERVAL '2' HOUR"),
    *("t > TIMESTAMP '2026-01-01 00:00:00'", "t >= '2026-03-10'", "Day < DATE '2000-01-02'", "Day >= '2000-01-01'"),
    *("n::BIGINT", "n::DOUBLE", "x::DOUBLE", "CAST(d AS DOUBLE)", "CAST(r AS DOUBLE)", "CAST(t AS DATE)"),
    *("CAST(Day AS TIMESTAMP)", "Day", "d", "r", "t", "b", "s", "NULL", "1", "1.5", "'x'", "1e3"),
    "row_number() OVER (PARTITION BY k ORDER BY t, row)",
    "rank() OVER (ORDER BY n)",
    "dense_rank() OVER (ORDER BY s DESC)",
    "lag(x) OVER (PARTITION BY k ORDER BY row)",
    "lead(n, 2, 0) OVER (ORDER BY row)",
    "sum(n) OVER (PARTITION BY k ORDER BY row ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)",
    "avg(n) OVER (PARTITION BY k ORDER BY t, row)",
    "max(x) OVER (PARTITION BY k)",
    "min(s) OVER (ORDER BY x, row)",
    "count(*) OVER (PARTITION BY k)",
]
QUERIES = [
    "SELECT * FROM own",
    "SELECT k, count(*) AS c, count(n) AS cn, count(DISTINCT s) AS cs, sum(n) AS Total, avg(n) AS a, min(x) AS lo, "
    "max(x) AS hi, max(t) AS t, sum(x) FILTER (WHERE n > 0) AS f, bool_free AS z FROM (SELECT *, 1 AS bool_free FROM "
    "own) GROUP BY k, bool_free HAVING count(*) > 1",
    "WITH a AS (SELECT k, max(row) AS row FROM own GROUP BY 1) SELECT a.k, o.x, o.s FROM a JOIN own o USING (row)",
    "SELECT a.row, b.row AS other FROM own a LEFT JOIN own b ON a.k = b.k AND b.row > a.row WHERE a.n > -5",
    "SELECT k, n FROM own WHERE EXISTS (SELECT 1 FROM own o WHERE o.k = own.k AND o.row > own.row)",
    "SELECT DISTINCT k FROM own UNION ALL SELECT row AS k FROM own WHERE row IN (SELECT k FROM own)",
    "SELECT k, date_trunc('day', t) + INTERVAL 1 DAY AS day_end, max(t) AS known_at, max(d) AS top, sum(x) / "
    "nullif(count(x), 0) AS mean, max(n) - min(n) AS spread FROM own WHERE row <> 3 AND row <> 2 "
    "GROUP BY k, date_trunc('day', t)",
    "SELECT k, n FROM own UNION SELECT k, n FROM own",
    "SELECT k, n AS v, s FROM own UNION ALL SELECT n, x, NULL FROM own UNION (SELECT 7, 1.5::DOUBLE, 'x' FROM own)",
    "SELECT k, avg(n / 3.0) / 7 AS mean, sum(n / 4) / 3.0 AS total FROM own GROUP BY k",
    "SELECT k, n FROM own WHERE row IN (SELECT x + 0.5 FROM own)",
    "SELECT n + 1 AS m, m * 2 AS twice FROM own WHERE m > 0",
]


@pytest.fixture
def own(tmp_path, engine, spark):
    with placing(tmp_path, engine, spark) as place:
        yield hw.SQLSource(place(ROWS, "rows_of_queries"))


def answers(engine, own, query):
    """The rows that Spark and DuckDB give for a query over `own`."""
    with engine.workspace() as space:
        held = space.table_of(hw.SQLSource(query, tables={"own": own}))
        frame = engine.session().spark.table(held.table.name)
        rows = [tuple(row) for row in frame.collect()]
        embedded = space._embedded
        embedded.load("own", ROWS.schema, iter(ROWS.to_batches()))
        sql = f"WITH own AS (SELECT * FROM {embedded.table('own')}) SELECT * FROM ({query})"
        expected = pa.Table.from_batches(list(embedded.stream_sql(sql, 1_000)))
    assert held.schema.names == expected.column_names
    return rows, list(zip(*(column.to_pylist() for column in expected.columns), strict=True))


def plain(value):
    """A value as what it counts for: whatever integer or float it is, instants in UTC."""
    if isinstance(value, datetime):
        return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).astimezone(UTC)
    if isinstance(value, (float, Decimal)) and not isinstance(value, bool):
        value = float(value)
        if abs(value) < 2**53 and value == int(value):
            return int(value)
        return "NaN" if math.isnan(value) else value
    return value


def test_every_value_is_that_of_duckdb(engine, own):
    query = f"SELECT row, {', '.join(f'{value} AS v{i}' for i, value in enumerate(VALUES))} FROM own"
    rows, expected = answers(engine, own, query)
    rows, expected = sorted(rows), sorted(expected)
    for i, value in enumerate(VALUES, 1):
        assert [plain(row[i]) for row in rows] == [plain(row[i]) for row in expected], value


def test_the_rows_of_a_query_are_those_of_duckdb(engine, own):
    for query in QUERIES:
        if SAIL:  # its MIN and MAX of a group do not know NaN and infinity
            query = query.replace("min(x)", "min(d)").replace("max(x)", "max(d)")
        rows, expected = answers(engine, own, query)
        assert sorted(repr([plain(v) for v in row]) for row in rows) == sorted(
            repr([plain(v) for v in row]) for row in expected
        ), query


def test_views_of_spark_and_written_rows_in_one_query(tmp_path, engine, own, spark):
    rows = pa.table(
        {
            "shop": pa.array([1, 1, 2, 3], pa.int32()),
            "at": pa.array([NOON - timedelta(hours=h) for h in (3, 2, 2, 2)], pa.timestamp("us", "UTC")),
            "amount": pa.array([1.0, 2.5, 4.0, 8.0]),
        }
    )
    shop = hw.Entity("shop", join_keys={"shop": hw.Int32})
    folder = tmp_path / "sales"
    folder.mkdir()
    pq.write_table(rows, folder / "a.parquet")
    session = engine.session().spark
    session.sql(f"CREATE TABLE default.sales_of_views USING parquet LOCATION 'file://{folder}'")
    try:
        sales = hw.FeatureView(
            "sales",
            entity=shop,
            source=hw.SQLSource("SELECT * FROM default.sales_of_views", event_time="at"),
            features=[hw.Feature("amount", hw.Float64)],
        )
        doubled = hw.FeatureView(
            "doubled",
            entity=shop,
            source=hw.SQLSource(
                "SELECT shop, event_time, known_at, amount * 2 AS twice FROM sales WHERE amount > 1",
                tables={"sales": sales},
                event_time="event_time",
                created_time="known_at",
            ),
            features=[hw.Feature("twice", hw.Float64)],
        )
        with hw.FeatureStore(tmp_path, offline=engine, online="memory:", clock=lambda: NOON) as store:
            store.apply([shop, sales, doubled])
            store.write("sales", pa.Table.from_pylist([{"shop": 2, "at": NOON - timedelta(hours=1), "amount": 10.0}]))
            store.delete("sales", [3])
            spine = pa.table({"shop": pa.array([1, 2, 3, 4], pa.int32()), "timestamp": [NOON + timedelta(hours=1)] * 4})
            found = store.get_historical_features(spine, ["doubled:twice", "sales:amount"]).to_arrow()
            assert found.column("twice").to_pylist() == [5.0, 20.0, None, None]
            assert found.column("amount").to_pylist() == [2.5, 10.0, None, None]
            store.materialize()
            online = store.get_online_features(["doubled:twice"], [1, 2, 3]).to_dict()
            assert online["twice"] == [5.0, 20.0, None]

            bad = hw.FeatureView(
                "bad",
                entity=shop,
                source=hw.SQLSource(
                    "SELECT shop, at, round(amount) AS amount\nFROM sales",
                    tables={"sales": hw.SQLSource("SELECT * FROM default.sales_of_views")},
                    event_time="at",
                ),
                features=[hw.Feature("amount", hw.Float64)],
            )
            with pytest.raises((DefinitionError, SourceError), match=r"line 1, column 18: 'ROUND"):
                store.plan([shop, bad])
            mixed = hw.SQLSource(
                "SELECT a.shop FROM a JOIN b USING (shop)",
                tables={"a": hw.SQLSource("SELECT * FROM default.sales_of_views"), "b": hw.TableSource(rows)},
            )
            with pytest.raises(SourceError, match=r"table 'b' \(table source\) is not a table of the engine's"):
                engine.source_schema(mixed)
    finally:
        session.sql("DROP TABLE default.sales_of_views")
