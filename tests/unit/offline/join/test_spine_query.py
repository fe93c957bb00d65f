"""Spines as text: queries of any form and length, and what else text may be."""

from datetime import UTC, datetime

import pytest

import headwater as hw
from headwater.errors import SpineError
from headwater.offline.join.spine_query import spine_query

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SELECT = "SELECT 'Ålesund' AS town, TIMESTAMP '2026-06-01 12:00:00' AS timestamp"
LONG = SELECT + "".join(f", {i} AS column_{i}" for i in range(900))


@pytest.fixture(scope="module")
def store():
    town = hw.Entity("town", join_keys={"town": hw.String})
    source = hw.TableSource([{"town": "Ålesund", "t": NOON, "temp": 11.0}], event_time="t")
    view = hw.FeatureView("v", entity=town, source=source, features=[hw.Feature("temp", hw.Float64)])
    with hw.FeatureStore.in_memory([town, view], clock=lambda: NOON) as store:
        yield store


@pytest.mark.parametrize(
    "text",
    [
        SELECT,
        f"{SELECT};",
        f"{SELECT} ; ; \n",
        f"{SELECT} -- the end;",
        f"{SELECT}; /* the end */",
        f"/* churn */ {SELECT}",
        f"-- churn\n/* of\nJune */ -- twice\n({SELECT})",
        f"/* a ; b */{LONG};",
        f"WITH s AS ({SELECT}) FROM s",
        f"\n\t{SELECT.replace('SELECT', 'select')}\n",
        "VALUES ('Ålesund', TIMESTAMP '2026-06-01 12:00:00')",
    ],
)
def test_a_query(store, text):
    options = {} if "AS town" in text else {"at": NOON}
    if options:
        text = f"SELECT col0 AS town FROM ({text})"
    assert store.get_historical_features(text, ["v:temp"], **options).to_arrow()["temp"].to_pylist() == [11.0]


@pytest.mark.parametrize("word", ["PIVOT", "insert INTO t", "CREATE TABLE t AS", "/* x */ UPDATE", "COPY", "SET"])
def test_another_statement_is_refused(store, word):
    with pytest.raises(SpineError, match="one query that begins with SELECT"):
        store.get_historical_features(f"{word} {'x' * 300}", ["v:temp"])


def test_several_statements_are_refused(store):
    with pytest.raises(SpineError, match="more than one statement"):
        store.get_historical_features(f"{SELECT}; DROP TABLE x", ["v:temp"])


def test_text_that_is_neither_a_query_nor_a_path(store):
    for text in ("no such file.csv", "x" * 5_000, "a\x00b", "a\nb"):
        with pytest.raises(SpineError, match=r"neither SQL nor a file|one query"):
            store.get_historical_features(text, ["v:temp"])


def test_a_file_named_like_a_statement_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "update").touch()
    assert spine_query("update") is None and spine_query("select.parquet") is None
    assert spine_query("selected/rows.parquet") is None and spine_query("from-june.parquet") is None
