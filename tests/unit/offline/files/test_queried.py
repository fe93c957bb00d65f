"""A folder named `x=99` above a file that a user's own SQL names changes nothing in what is read of it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.errors import SourceError
from headwater.offline.files.queried import in_project

T0 = datetime(2026, 1, 1, tzinfo=UTC)
ENTITY = hw.Entity("thing", join_keys={"id": hw.Int64})


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Files below a folder that looks like a partition of their own column, and in partitions of another."""
    lake = tmp_path / "x=99" / "lake's"
    table = pa.table({"id": [1], "ts": pa.array([T0], pa.timestamp("us", "UTC")), "x": [5]})
    (lake / "project").mkdir(parents=True)
    for folder in (lake, lake / "half=1"):
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / "a.parquet")
        pyarrow.csv.write_csv(table, folder / "a.csv")
    return lake


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id, ts, x FROM read_parquet('{lake}/a.parquet')",
        "SELECT id, ts, x FROM parquet_scan(['{lake}/a.parquet'], union_by_name = true)",
        "SELECT id, ts, x FROM READ_PARQUET ( '{lake}/half=1/*.parquet' ) AS t WHERE t.x < 50",
        "SELECT id, ts, x FROM '{lake}/a.parquet'",
        "SELECT a.id, a.ts, a.x FROM '{lake}/a.parquet' WHERE a.x = 5",
        "SELECT t.id, t.ts, t.x FROM '{lake}/a.parquet' AS t JOIN '{lake}/half=1/a.parquet' u ON t.x = u.x",
        'SELECT id, ts, x FROM "{plain}/a.parquet" -- x=1',
        "SELECT id, ts::TIMESTAMPTZ AS ts, x FROM read_csv('{lake}/a.csv')",
        "SELECT id, ts::TIMESTAMPTZ AS ts, x FROM '{lake}/a.csv'",
        "WITH t AS (FROM read_parquet('{lake}/a.parquet', file_row_number = true)) SELECT id, ts, x FROM t",
    ],
)
def test_the_column_of_the_file_is_read(lake: Path, query: str) -> None:
    sql = query.format(lake=str(lake).replace("'", "''"), plain=lake)
    with hw.FeatureStore(lake / "project") as store:
        source = hw.SQLSource(sql, event_time="ts")
        features = [hw.Feature("x", hw.Int64)]
        store.apply([ENTITY, hw.FeatureView("v", entity=ENTITY, source=source, features=features)])
        store.materialize()
        assert store.get_online_features(["v:x"], [1]).to_dict()["x"] == [5]
        spine = f"SELECT id, ts AS timestamp, x AS own FROM ({sql}\n)"
        found = store.get_historical_features(spine, ["v:x"]).to_arrow().to_pydict()
        assert (found["own"], found["x"]) == ([5], [5])


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT x = 1 FROM t",
        "SELECT * FROM read_parquet('data/*/a.parquet')",
        "SELECT * FROM read_parquet('data/*/half=1/a.parquet')",
        "SELECT * FROM read_parquet('/x=1/a.parquet', hive_partitioning = true)",
        "SELECT * FROM read_parquet('/x=1/a.parquet', hive_types = {'x': INT})",
        "SELECT '/x=1/a.parquet' FROM t WHERE note = '/x=1/a.parquet'",
        "SELECT * FROM range(3) WHERE 'a=b' = 'x",
        "SELECT f(a = 1, (2",
    ],
)
def test_what_needs_no_change_stays(sql: Any) -> None:
    assert in_project(sql, Path("/project"), "view").replace("/project/", "") == sql


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ("SELECT * FROM 'w.parquet'", "SELECT * FROM read_parquet('/p/w.parquet') AS \"w\""),
        ("FROM w.parquet AS t", "FROM read_parquet('/p/w.parquet') AS t"),
        ("FROM \"d/w.csv\" t, 'v.parquet'", "FROM read_csv('/p/d/w.csv') t, read_parquet('/p/v.parquet') AS \"v\""),
        ("SELECT 'a', 'w.parquet' FROM t", "SELECT 'a', 'w.parquet' FROM t"),
        ("SELECT f('w.parquet'), x FROM f('w.parquet')", "SELECT f('w.parquet'), x FROM f('w.parquet')"),
        ("SELECT x FROM t JOIN w.parquet u ON u.n = 'w.parquet'", None),
        ("SELECT (SELECT max(n) FROM ('w.parquet')) FROM t", None),
        ("FROM read_parquet(['w.parquet', '/q/v.parquet'], union_by_name = true)", None),
        ("SELECT content FROM read_text('w.parquet')", "SELECT content FROM read_text('/p/w.parquet')"),
        ("FROM read_csv('s3://b/w.csv')", "FROM read_csv('s3://b/w.csv')"),
        ("FROM read_csv('~/w.csv')", "FROM read_csv('~/w.csv')"),
        ("FROM read_parquet('/q/' || x)", "FROM read_parquet('/q/' || x)"),
        ("FROM read_parquet('d/*/w?.parquet')", "FROM read_parquet('/p/d/*/w?.parquet')"),
        ("FROM w.main", "FROM w.main"),
        ("FROM (VALUES ('w.parquet'), ('v.parquet')) t(x)", "FROM (VALUES ('w.parquet'), ('v.parquet')) t(x)"),
    ],
)
def test_relative_paths_are_the_projects(sql: str, wanted: str | None) -> None:
    found = in_project(sql, Path("/p"), "view")
    if wanted is not None:
        assert found == wanted
    assert "'/p/w.parquet'" in found or wanted is not None


@pytest.mark.parametrize("files", ["'w' || '.parquet'", "getvariable('files')", "['a.parquet', x]"])
def test_files_that_an_expression_hides_are_refused(files: str) -> None:
    with pytest.raises(SourceError, match=r"view: write the files of read_parquet\(…\) as text in quotes"):
        in_project(f"FROM read_parquet({files})", Path("/p"), "view")


def test_the_working_directory_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, elsewhere = tmp_path / "run[12]*", tmp_path / "run1"
    for folder, x in ((project, 5), (elsewhere, -5)):
        folder.mkdir()
        for name in ("a.parquet", "a[1].parquet", "a1.parquet"):
            n = x if name != "a1.parquet" else -1
            pq.write_table(
                pa.table({"id": [1], "ts": pa.array([T0], pa.timestamp("us", "UTC")), "x": [n]}), folder / name
            )
    for sql in ("SELECT * FROM 'a.parquet'", "FROM read_parquet(['a[1].parquet'])", 'FROM (FROM "a[1].parquet") t'):
        view = hw.FeatureView(
            "v", entity=ENTITY, source=hw.SQLSource(sql, event_time="ts"), features=[hw.Feature("x", hw.Int64)]
        )
        for folder in (project, elsewhere):
            monkeypatch.chdir(folder)
            with hw.FeatureStore(project) as store:
                store.apply([ENTITY, view])
                store.materialize(force=True)
                assert store.get_online_features(["v:x"], [1]).to_dict()["x"] == [5]
                spine = f"SELECT id, ts AS timestamp, x AS own FROM ({sql})"
                found = store.get_historical_features(spine, ["v:x"]).to_arrow().to_pydict()
                assert (found["own"], found["x"]) == ([5], [5])


def test_a_file_of_a_table_format_is_refused_in_a_query(tmp_path: Path) -> None:
    (tmp_path / "d" / "_delta_log").mkdir(parents=True)
    (tmp_path / "d" / "_delta_log" / "0.json").touch()
    for sql in ("FROM 'd/a.parquet'", "FROM read_parquet('d/*.parquet')"):
        with pytest.raises(SourceError, match=r"view: .*d is a Delta table"):
            in_project(sql, tmp_path, "view")
