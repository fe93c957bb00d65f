"""What of a query makes one of its columns; held to DuckDB's own answers by changes of the other columns."""

import time
from dataclasses import replace
from itertools import islice, product

import duckdb
import pytest
import sqlglot

import headwater as hw
from headwater.definitions.fingerprint import ColumnFingerprints, fingerprint
from headwater.definitions.query_parts import canonical_sql, part_of
from headwater.testing import SCALE

KEYS = ("k", "t")


@pytest.mark.parametrize(
    ("query", "rest", "items"),
    [
        ("SELECT k, t, a, b + 1 AS c FROM f", "SELECT FROM f", "a"),
        ("select K, T, a -- why\n, b from f where b > 1 order by 4", "SELECT FROM f WHERE b > 1", "a"),
        ("SELECT k, t, b AS x, x * 2 AS a, c FROM f", "SELECT FROM f", "b AS x; x * 2 AS a"),
        ("SELECT k, t, a, b AS x FROM f WHERE x > 1", "SELECT FROM f WHERE x > 1", "a; b AS x"),
        ("SELECT k, t, f.a, f.b + 1 AS b FROM f WHERE f.b > 1", "SELECT FROM f WHERE f.b > 1", "f.a"),
        ("SELECT k, t, g.b AS b, b * 2 AS a FROM f JOIN g USING (k)", "SELECT FROM f JOIN g USING (k)", "b * 2 AS a"),
        ("SELECT k, t, g.b AS b, b * 2 AS a FROM f", "SELECT FROM f", "b * 2 AS a; g.b AS b"),
        ("SELECT k, t, upper(b) AS b, b.lower() AS a FROM f", "SELECT FROM f", "UPPER(b) AS b; b.lower() AS a"),
        ("SELECT k, t, sum(a) AS a, max(b) AS b FROM f GROUP BY k, t", "SELECT FROM f GROUP BY k, t", "SUM(a) AS a"),
        ("SELECT k, t, a, sum(b) AS b FROM f GROUP BY k, t, a // 2", "SELECT FROM f GROUP BY k, t, a // 2", "a"),
        ("SELECT k, t, a, count(*) AS n FROM f GROUP BY k, t, a", "SELECT FROM f GROUP BY k, t, a", "a"),
        (
            "WITH g AS (SELECT *, c AS b FROM f) SELECT k, t, a, b + 1 AS b FROM g",
            "WITH g AS (SELECT *, c AS b FROM f) SELECT FROM g",
            "a",
        ),
        ("SELECT k, t, a, sum(b) OVER (PARTITION BY k) AS b FROM f", "SELECT FROM f", "a"),
        ("SELECT lower(k) AS k, t::INT AS t, coalesce(a, 0) AS a, favg(b) OVER () AS b FROM f", "SELECT FROM f", None),
    ],
)
def test_items_of_other_columns_are_left_out(query, rest, items):
    text = part_of(query, [*KEYS, "a"]).text
    assert text[0] == rest
    if items is not None:
        assert "; ".join(item for item in text[1:] if item not in KEYS) == items


def test_the_order_of_items_means_nothing_to_one_of_them():
    query = "SELECT k, t, b + 1 AS b, a FROM f"
    assert part_of(query, [*KEYS, "a"]) == part_of("SELECT a, b + 1 AS b, t, k FROM f", ["A", "t", "k"])
    assert canonical_sql(query) != canonical_sql("SELECT a, b + 1 AS b, t, k FROM f")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT DISTINCT k, t, a, b FROM f",
        "SELECT DISTINCT ON (k) k, t, a, b FROM f",
        "SELECT k, t, a, sum(b) AS b FROM f GROUP BY ALL",
        "SELECT k, t, a, sum(b) AS b FROM f GROUP BY *",
        "SELECT k, t, a, sum(b) AS b FROM f GROUP BY 1, 2, 3",
        "SELECT k, t, a, sum(b) AS b FROM f GROUP BY (1), ((2)), a",
        "SELECT k, t, a, sum(b) AS b FROM f GROUP BY (1, 2, 3)",
        "SELECT k, t, a, sum(b) AS b FROM f GROUP BY k, ROLLUP (2, 3)",
        "SELECT k, t, a, sum(b) AS b FROM f GROUP BY CUBE (k, t, 3)",
        "SELECT k, t, a, sum(b) AS b FROM f GROUP BY GROUPING SETS ((k, t, a), (1, 2))",
        "SELECT k, t, a, b FROM f UNION ALL SELECT k, t, a, b FROM g",
        "SELECT * FROM f",
        "SELECT k, t, a, f.* FROM f",
        "SELECT k, t, a, COLUMNS('b.*') FROM f",
        "SELECT k, t, a, b FROM f QUALIFY row_number() OVER (PARTITION BY k ORDER BY b) = 1",
        "SELECT k, t, a, b FROM f ORDER BY b LIMIT 10",
        "SELECT k, t, a, unnest(b) AS b FROM f",
        "SELECT k, t, a, main.unnest(b) AS b FROM f",
        "SELECT k, t, a, len(regexp_split_to_table(b, ',')) AS b FROM f",
        "SELECT k, t, a, generate_subscripts(b, 1) AS b FROM f",
        "SELECT 1 AS k, max(t) AS t, max(a) AS a, max(b) AS b FROM f",
        "SELECT 1 AS k, 2 AS t, 3 AS a, favg(b) AS b FROM f",
        "SELECT 1 AS k, 2 AS t, favg(b) AS b, b AS a FROM f",
        "SELECT k, t, a, b FROM f USING SAMPLE 10",
        "SELECT k, t, b AS a, c AS a FROM f",
        "SELECT k, t, A + 1 FROM f",
    ],
)
def test_the_whole_query_where_other_columns_may_choose_rows(query):
    assert part_of(query, [*KEYS, "a"]).text == (canonical_sql(query),)


def test_what_does_not_parse_is_compared_as_it_is_written():
    assert part_of("SELECT  k,\n FROM WHERE", KEYS).text == ("SELECT k, FROM WHERE",)
    assert part_of("SELECT (", KEYS).names is None
    assert part_of("SELECT k, t, f.a, count(*) OVER () AS n FROM f", [*KEYS, "n"]).names == {"f", "k", "t", "n"}


def test_every_aggregate_and_macro_of_duckdb_that_makes_rows_is_known():
    functions = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type ="
    with duckdb.connect() as connection:
        macros = connection.execute(f"{functions} 'macro' AND macro_definition LIKE '%unnest(%'").fetchall()
        aggregates = connection.execute(f"{functions} 'aggregate'").fetchall()
    for (name,) in macros:
        query = f"SELECT k, t, a, {name}(b, 1) AS b FROM f"
        assert part_of(query, [*KEYS, "a"]).text == (canonical_sql(query),), name
    for (name,) in aggregates:
        for arguments in ("b", "b, c", "b, c, 1"):
            query = f"SELECT 1 AS k, 2 AS t, 3 AS a, {name}({arguments}) AS b FROM f"
            try:
                sqlglot.parse_one(query, dialect="duckdb")
            except sqlglot.errors.SqlglotError:
                continue
            assert part_of(query, [*KEYS, "a"]).text == (canonical_sql(query),), name


KEY_ITEMS = ("k, t", "1 AS k, 2 AS t")
ITEMS = (
    *("v AS a", "sum(v) AS a", "sum(v) OVER (PARTITION BY k) AS a", "b AS a", "b * 2 AS a", "1 AS a"),
    *("b.abs() AS a", "f.w AS a", "s.b AS a", "(b) AS a", "c + 1 AS a"),
)
OTHERS = (
    *(
        "w AS b",
        "w * 2 AS b",
        "max(w) AS b",
        "a + w AS b",
        "unnest([w, w + 1]) AS b",
        "main.unnest([w, v]) AS b",
        "count(*) AS b",
        "s.b AS b",
    ),
    *("u.b AS b", "generate_subscripts([w, v], 1) AS b", "regexp_split_to_table(x, ',')::INT AS b", "favg(w) AS b"),
    *("c", "f.c AS c", "s.c AS c", "u.c AS c", "w + 1 AS c", "fsum(c) AS c", "a.abs() AS c", "k AS c"),
)
TAILS = (
    *("", " WHERE v > 1", " WHERE b > 4", " WHERE c.abs() > 4", " WHERE f.c > 1", " GROUP BY k, t, v, w, s, u, c, x"),
    *(
        " GROUP BY ALL",
        " GROUP BY *",
        " GROUP BY k, t, b",
        " GROUP BY (1), (2), (3)",
        " GROUP BY ROLLUP (1, 2, 3)",
        " HAVING b > 1",
    ),
    *(" GROUP BY (1, 2, 3)", " GROUP BY k, t, v, b HAVING b > 5", " ORDER BY 3 LIMIT 2"),
    " QUALIFY row_number() OVER (PARTITION BY k ORDER BY w, v) = 1",
)
TABLE = """
CREATE TABLE f AS SELECT *, {'b': v, 'c': w} AS s, {'b': w, 'c': 9 - v} AS u, w + v AS c, '1,2' AS x
FROM (VALUES (1, 1, 1, 5), (1, 2, 2, 6), (2, 1, 3, 5), (2, 1, 3, 7)) AS x(k, t, v, w)
"""


def answer_of(connection, query):
    """DuckDB's answer; None where it refuses the query."""
    try:
        return connection.execute(query).fetchall()
    except duckdb.Error:
        return None


def test_queries_of_one_part_give_one_answer():
    """Where a change leaves the part that makes `a` as it is, the rows (as a set) have the same `a`."""
    known = {}
    every = product(KEY_ITEMS, ("", "DISTINCT "), ITEMS, OTHERS, TAILS)
    with duckdb.connect() as connection:
        connection.execute(TABLE)
        # in a third of them too every two parts meet
        for keys, distinct, item, other, tail in islice(every, 0, None, 3 if SCALE == 1 else 1):
            if tail and (distinct or (keys != KEY_ITEMS[0] and "HAVING" not in tail)):
                continue
            items = f"{item}, {other}" if other.startswith("a") else f"{other}, {item}"  # aliases are used after them
            query = f"SELECT {distinct}{keys}, {items} FROM f{tail}"
            answer = answer_of(connection, f"SELECT k, t, a FROM ({query})")
            if answer is not None:
                first, expected = known.setdefault(part_of(query, [*KEYS, "a"]), (query, set(answer)))
                assert set(answer) == expected, (first, query)
    assert len(known) > 100


READERS = (
    *(
        "{p}v",
        "{p}D.{Temp}",
        "(D).{Temp}",
        "{p}D.{Temp}.{Sub}",
        "D->>'{Temp}'",
        "list_transform([D], lambda X: X.{Temp})",
    ),
    *("to_json({{'{Temp}': 1}})", "to_json(struct_pack({Temp} := v))", "CAST({{'{Temp}': 1}} AS VARCHAR)", "S.{Temp}"),
    *("to_json(CAST(ROW(1) AS STRUCT({Temp} INT)))", "to_json({p}S)", "to_json(j)", "{J}.to_json()", "{J}"),
    "COLUMNS('{Temp}')",
)
FROMS = (
    *("j", "j AS {J}", "(SELECT v AS {Temp}, * FROM j) AS j", "(SELECT D AS {Temp}, v, D, S FROM j) AS j"),
    "(SELECT D AS j, v, D, S FROM j) AS D",
)
NAMES = [{"Temp": temp, "Sub": sub, "J": j} for temp, sub, j in product(("Temp", "temp"), ("Sub", "sub"), "Jj")]


def test_queries_of_one_canonical_text_give_one_answer_whatever_their_letter_case():
    known = {}
    with duckdb.connect() as connection:
        connection.execute(
            """CREATE TABLE j AS SELECT 1 AS v, {'Temp': 1} AS S,
            '{"Temp": {"Sub": 1, "sub": 2}, "temp": {"Sub": 3, "sub": 4}}'::JSON AS D"""
        )
        for reader, source, prefix, names in product(READERS, FROMS, ("", "j.", "J."), NAMES):
            query = f"SELECT {reader} AS x FROM {source}".format(p=prefix, **names)
            answer = answer_of(connection, query)
            if answer is not None:
                first, expected = known.setdefault(canonical_sql(query), (query, answer))
                assert answer == expected, (first, query)
    assert len(known) > 50


READS = (
    *(
        "SELECT a FROM f",
        "SELECT f.b, F.A FROM f WHERE b > 1",
        "SELECT k FROM f GROUP BY k, b",
        "SELECT count(*) FROM f",
    ),
    *("SELECT to_json(f) FROM f", "SELECT to_json(g) FROM f AS g", "SELECT f.to_json() FROM f", "SELECT f FROM f"),
    *(
        "SELECT (SELECT max(g) FROM f AS g)",
        "SELECT max(f) OVER () FROM f",
        "SELECT k FROM f WHERE f < (SELECT f FROM f)",
    ),
    *(
        "WITH g AS (SELECT * FROM f) SELECT a FROM g",
        "WITH g AS (FROM f) SELECT a FROM g",
        "SELECT k IN (TABLE g) FROM f",
    ),
    *(
        "SELECT min(COLUMNS('a|b')) FROM f",
        "SELECT #3 FROM f",
        "SELECT q FROM f AS g(m, n, o, p, q)",
        "SELECT z FROM f AS g(z)",
    ),
    *(
        "WITH g(z) AS (SELECT b FROM f) SELECT z FROM g",
        "SELECT f.* EXCLUDE (a) FROM f",
        "SELECT k, t FROM f NATURAL JOIN h",
    ),
    *(
        "FROM f PIVOT (sum(b) FOR c IN (5, 6))",
        "SELECT k FROM f PIVOT (sum(b) FOR c IN (5, 6))",
        "SELECT h.k FROM f, h",
    ),
    *(
        "SELECT v FROM f UNPIVOT (v FOR n IN (a, b))",
        "SELECT x FROM query('SELECT c AS x FROM f')",
        "SELECT k FROM f, h",
    ),
    *(
        "SELECT column_type FROM (DESCRIBE f)",
        "SELECT min FROM (SUMMARIZE f)",
        "SELECT a FROM f UNION ALL SELECT b FROM f",
    ),
    *(
        "SELECT list_transform([a], lambda f: f + b) FROM f",
        "SELECT struct_pack(c := a) FROM f",
        "SELECT a AS c FROM f",
    ),
)
DEFAULTS = {"k": "1", "t": "2", "a": "3", "b": "4", "c": "5"}


@pytest.mark.parametrize("query", READS)
def test_an_answer_depends_on_no_column_that_a_query_does_not_name(query):
    def answer(**values):
        with duckdb.connect() as connection:
            items = ", ".join(f"{value} AS {name}" for name, value in (DEFAULTS | values).items())
            connection.execute(f"CREATE TABLE f AS SELECT {items}")
            connection.execute("CREATE TABLE g AS SELECT 1 AS z; CREATE TABLE h AS SELECT 1 AS k, 5 AS c")
            try:
                return connection.execute(query).fetchall()
            except duckdb.Error as bad:
                return str(bad)

    names, expected = part_of(query, ["z"]).names, answer()
    for name in () if names is None else DEFAULTS.keys() - names:
        assert answer(**{name: "'x'"}) == expected


def test_names_are_hidden_only_where_something_stands_for_columns():
    hidden = [query for query in READS if part_of(query, ["z"]).names is None]
    shown = [
        *READS[:4],
        "WITH g(z) AS (SELECT b FROM f) SELECT z FROM g",
        "SELECT h.k FROM f, h",
        "SELECT a AS c FROM f",
    ]
    assert not set(shown) & set(hidden)


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
    before = ColumnFingerprints(view())
    added = ColumnFingerprints(view("SELECT k, t, a, b, b * c AS c FROM f", "abc", schema={"c": hw.Float64}))
    assert {name: added[name] for name in "ab"} == before
    altered = ColumnFingerprints(view("SELECT k, t, a, b + 1 AS b FROM f"))
    assert altered["a"] == before["a"] and altered["b"] != before["b"]
    for other in (view(ttl="1h"), view("SELECT k, t, a, b FROM f WHERE a > 0"), view(schema={"a": hw.String})):
        assert ColumnFingerprints(other)["a"] != before["a"]
    assert ColumnFingerprints(view(features="a"))["a"] == before["a"]
    assert fingerprint(view(features="a")) != fingerprint(view())


def test_a_moved_column_or_key_changes_no_column():
    query = "SELECT b, t, a, k FROM f"
    assert ColumnFingerprints(view(query)) == ColumnFingerprints(view())
    assert fingerprint(view(query)) != fingerprint(view())


def test_a_column_of_whole_rows_depends_on_all_columns_of_the_table():
    query = "SELECT k, t, a, to_json(f) AS b FROM f"
    before, after = (ColumnFingerprints(view(query, schema={"c": dtype})) for dtype in (hw.Float64, hw.Int64))
    assert before["a"] == after["a"] and before["b"] != after["b"]


def test_a_query_s_table_in_utc_is_another_than_one_without_a_time_zone():
    """Its times are instants; without a time zone they are naive, and the query's time zone settles them."""

    def of(zone, outer=None):
        source = hw.SQLSource(
            "SELECT k, t, a FROM f", tables={"f": hw.ParquetSource("f.parquet", timezone=zone)}, event_time="t"
        )
        return hw.FeatureView(
            "v",
            entity=hw.Entity("thing", {"k": hw.Int64}),
            source=replace(source, timezone=outer),
            features=[hw.Feature("a", hw.Float64)],
        )

    assert len({fingerprint(of(zone)) for zone in (None, "UTC", "Europe/Berlin")}) == 3
    assert len({ColumnFingerprints(of(zone))["a"] for zone in (None, "UTC", "Europe/Berlin")}) == 3
    assert fingerprint(of(None, "UTC")) == fingerprint(of(None))


def test_fingerprints_of_many_columns_parse_their_query_once():
    names = [f"f{number}" for number in range(400)]
    items = ", ".join(f"coalesce(x{name}, 0) * 2 AS {name}" for name in names)
    for query in (f"SELECT k, t, {items} FROM f", f"SELECT DISTINCT k, t, {items} FROM f"):
        start = time.process_time()
        assert len(set(ColumnFingerprints(view(query, names)).values())) == len(names)
        assert time.process_time() - start < 2


def test_a_column_of_a_push_source_does_not_hang_on_the_schema_of_others():
    def pushed(schema):
        features = [hw.Feature("a", hw.Float64), hw.Feature("b", hw.Float64, column="c")]
        source = hw.PushSource(event_time="t", schema=schema)
        return ColumnFingerprints(
            hw.FeatureView("v", entity=hw.Entity("x", {"k": hw.Int64}), source=source, features=features)
        )

    assert pushed({"c": hw.Float64})["a"] == pushed(None)["a"] == pushed({"c": hw.Int64, "d": hw.String})["a"]
    assert pushed({"c": hw.Float64})["b"] != pushed({"c": hw.Int64})["b"]
