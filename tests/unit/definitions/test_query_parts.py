"""What of a query makes one of its columns; held to DuckDB's own answers by changes of the other columns."""

from collections.abc import Mapping

import duckdb
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import headwater as hw
from headwater.definitions.fingerprint import column_fingerprints, fingerprint
from headwater.definitions.query_parts import canonical_sql, names_in, part_of
from headwater.testing import SCALE

KEYS = ("k", "t")


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("SELECT k, t, a, b + 1 AS c FROM f", "SELECT k, t, a FROM f"),
        ("select K, T, a -- why\n, b from f where b > 1 order by 4", "SELECT k, t, a FROM f WHERE b > 1"),
        ("SELECT k, t, b AS x, x * 2 AS a, c FROM f", "SELECT k, t, b AS x, x * 2 AS a FROM f"),
        ("SELECT k, t, a, b AS x FROM f WHERE x > 1", "SELECT k, t, a, b AS x FROM f WHERE x > 1"),
        ("SELECT k, t, sum(a) AS a, max(b) AS b FROM f GROUP BY k, t", "SELECT k, t, SUM(a) AS a FROM f GROUP BY k, t"),
        ("SELECT k, t, a, count(*) AS n FROM f GROUP BY k, t, a", "SELECT k, t, a FROM f GROUP BY k, t, a"),
        ("WITH g AS (SELECT * FROM f) SELECT k, t, a, b FROM g", "WITH g AS (SELECT * FROM f) SELECT k, t, a FROM g"),
        ("SELECT k, t, a, sum(b) OVER (PARTITION BY k) AS b FROM f", "SELECT k, t, a FROM f"),
    ],
)
def test_items_of_other_columns_are_left_out(query, part):
    assert part_of(query, [*KEYS, "a"]) == part


@pytest.mark.parametrize(
    "query",
    [
        "SELECT DISTINCT k, t, a, b FROM f",
        "SELECT DISTINCT ON (k) k, t, a, b FROM f",
        "SELECT k, t, a, sum(b) AS b FROM f GROUP BY ALL",
        "SELECT k, t, a, sum(b) AS b FROM f GROUP BY 1, 2, 3",
        "SELECT k, t, a, b FROM f UNION ALL SELECT k, t, a, b FROM g",
        "SELECT * FROM f",
        "SELECT k, t, a, f.* FROM f",
        "SELECT k, t, a, COLUMNS('b.*') FROM f",
        "SELECT k, t, a, b FROM f QUALIFY row_number() OVER (PARTITION BY k ORDER BY b) = 1",
        "SELECT k, t, a, b FROM f ORDER BY b LIMIT 10",
        "SELECT k, t, a, unnest(b) AS b FROM f",
        "SELECT 1 AS k, max(t) AS t, max(a) AS a, max(b) AS b FROM f",
        "SELECT k, t, a, b FROM f USING SAMPLE 10",
        "SELECT k, t, b AS a, c AS a FROM f",
        "SELECT k, t, A + 1 FROM f",
    ],
)
def test_the_whole_query_where_other_columns_may_choose_rows(query):
    assert part_of(query, [*KEYS, "a"]) == canonical_sql(query)


def test_what_does_not_parse_is_compared_as_it_is_written():
    assert part_of("SELECT  k,\n FROM WHERE", KEYS) == "SELECT k, FROM WHERE"
    assert names_in("SELECT (") is None
    assert names_in("SELECT a.b, count(*) FROM x") == {"a", "b", "x"}


ITEMS: Mapping[str, tuple[str, ...]] = {
    "a": ("v AS a", "v + 1 AS a", "sum(v) AS a", "sum(v) OVER (PARTITION BY k) AS a"),
    "b": ("w AS b", "w * 2 AS b", "max(w) AS b", "a + w AS b", "unnest([w, w + 1]) AS b", "count(*) AS b"),
    "c": ("w AS c", "b + 1 AS c", "min(w) AS c", "'x' AS c"),
}
TAILS = (
    "",
    " WHERE v > 1",
    " GROUP BY k, t, v, w",
    " GROUP BY ALL",
    " ORDER BY 3 LIMIT 2",
    " QUALIFY row_number() OVER (PARTITION BY k ORDER BY w, v) = 1",
)


@settings(max_examples=150 * SCALE, deadline=None)
@given(
    st.sampled_from(["", "DISTINCT "]),
    st.fixed_dictionaries({name: st.sampled_from(forms) for name, forms in ITEMS.items()}),
    st.fixed_dictionaries({name: st.sampled_from(forms) for name, forms in ITEMS.items()}),
    st.sampled_from(TAILS),
)
def test_queries_of_one_part_give_one_answer(distinct, first, second, tail):
    """Where a change leaves the part that makes `a` as it is, the rows (as a set) have the same `a`."""
    queries = [f"SELECT {distinct}k, t, {', '.join(items.values())} FROM f{tail}" for items in (first, second)]
    if part_of(queries[0], [*KEYS, "a"]) != part_of(queries[1], [*KEYS, "a"]):
        return
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE f AS SELECT * FROM (VALUES (1, 1, 1, 5), (1, 2, 2, 6), (2, 1, 3, 5), (2, 1, 3, 7))"
            " AS x(k, t, v, w)"
        )
        answers = []
        for query in queries:
            try:
                answers.append(set(connection.execute(f"SELECT k, t, a FROM ({query})").fetchall()))
            except duckdb.Error:
                return
    assert answers[0] == answers[1], queries


def view(query="SELECT k, t, a, b FROM f", features="ab", **options):
    table = hw.CSVSource("f.csv", schema={"a": hw.Float64, "b": hw.Float64, **options.pop("schema", {})})
    return hw.FeatureView(
        "v",
        entity=hw.Entity("thing", {"k": hw.Int64}),
        source=hw.SQLSource(query, tables={"f": table}, event_time="t"),
        features=[hw.Feature(name, hw.Float64) for name in features],
        **options,
    )


def test_a_column_s_fingerprint_is_that_of_its_own_values():
    before = column_fingerprints(view())
    added = column_fingerprints(view("SELECT k, t, a, b, b * c AS c FROM f", "abc", schema={"c": hw.Float64}))
    assert {name: added[name] for name in "ab"} == before
    altered = column_fingerprints(view("SELECT k, t, a, b + 1 AS b FROM f"))
    assert altered["a"] == before["a"] and altered["b"] != before["b"]
    for other in (view(ttl="1h"), view("SELECT k, t, a, b FROM f WHERE a > 0"), view(schema={"a": hw.String})):
        assert column_fingerprints(other)["a"] != before["a"]
    assert column_fingerprints(view(features="a"))["a"] == before["a"]
    assert fingerprint(view(features="a")) != fingerprint(view())


def test_a_column_of_a_push_source_does_not_hang_on_the_schema_of_others():
    def pushed(schema):
        features = [hw.Feature("a", hw.Float64), hw.Feature("b", hw.Float64, column="c")]
        source = hw.PushSource(event_time="t", schema=schema)
        return column_fingerprints(
            hw.FeatureView("v", entity=hw.Entity("x", {"k": hw.Int64}), source=source, features=features)
        )

    assert pushed({"c": hw.Float64})["a"] == pushed(None)["a"] == pushed({"c": hw.Int64, "d": hw.String})["a"]
    assert pushed({"c": hw.Float64})["b"] != pushed({"c": hw.Int64})["b"]
