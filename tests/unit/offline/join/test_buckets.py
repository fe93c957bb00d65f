"""Buckets of keys as engines compute them, and of spines."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from headwater_sqlite.engine import SQLiteEngine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlglot import exp

import headwater as hw
from headwater.errors import SpineError, UsageError
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.offline.join.buckets import in_bucket
from headwater.offline.join.keys import key_columns
from headwater.offline.trees import column
from headwater.planning.buckets import Bucket, members
from headwater.planning.resolved import ResolvedKey
from headwater.testing import rounds

NOON = datetime(2024, 3, 10, 12, tzinfo=UTC)
VALUES = {
    hw.Int64: st.integers(-(2**63), 2**63 - 1),
    hw.Int32: st.integers(-(2**31), 2**31 - 1),
    hw.String: st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=4),
    hw.Bytes: st.binary(max_size=4),
    hw.Bool: st.booleans(),
    hw.Date: st.dates(),
    hw.Timestamp: st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),
}


@pytest.fixture(params=[DuckDBEngine, SQLiteEngine])
def engine(request, tmp_path):
    engine = request.param(tmp_path)
    yield engine
    engine.close()


@settings(
    max_examples=rounds(30),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
@given(dtypes=st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=2), n=st.integers(1, 5), data=st.data())
def test_an_engine_has_the_same_hash_as_numpy(engine, dtypes, n, data):
    columns = {}
    for i, dtype in enumerate(dtypes):
        values = data.draw(st.lists(st.none() | VALUES[dtype], min_size=5, max_size=5))
        columns[f"k{i}"] = pa.array(values, dtype.arrow)
    keys = [ResolvedKey(name, dtype, name, name) for name, dtype in zip(columns, dtypes, strict=True)]
    table = pa.table({"rn": pa.array(range(5), pa.int64()), **key_columns(pa.table(columns), keys)})
    with engine.workspace() as space:
        space.load("keys", table.schema, iter(table.to_batches()))
        for i in range(n):
            here = in_bucket(space.words, [column(name) for name in columns], dtypes, Bucket(i, n))
            query = exp.select(column("rn")).from_(space.table("keys")).where(here)
            expected = np.flatnonzero(members([table.column(name) for name in columns], Bucket(i, n)))
            assert sorted(row[0] for row in space.rows(query)) == expected.tolist()


@pytest.fixture
def store():
    user = hw.Entity("user", join_keys={"user": hw.Int64})
    item = hw.Entity("item", join_keys={"item": hw.String})
    rows = [{"user": n, "item": f"i{n}", "at": NOON, "x": float(n)} for n in range(20)]
    views = [
        hw.FeatureView(
            name,
            entity=entity,
            source=hw.ParquetSource("none.parquet", event_time="at"),
            features=[hw.Feature(f"{name}_x", hw.Float64, column="x")],
        )
        for name, entity in (("users", user), ("items", item), ("both", [user, item]), ("all", ()))
    ]
    sources = {view.name: rows for view in views}
    with hw.FeatureStore.in_memory([user, item, *views], sources=sources, clock=lambda: NOON) as store:
        yield store


def parts(store, spine, features, n=3, **options):
    return [store.get_historical_features(spine, features, bucket=(i, n), **options) for i in range(n)]


SPINE = {"user": [n % 7 for n in range(50)], "item": [f"i{n % 5}" for n in range(50)], "timestamp": [NOON] * 50}


@pytest.mark.parametrize(
    ("features", "keys"),
    [
        (["users:*"], ["user"]),
        (["items:*", "all:*"], ["item"]),
        (["both:*", "users:*"], ["user"]),
        (["both:*"], ["item", "user"]),
        (["users:*", "items:*"], []),
        (["all:*"], []),
    ],
)
def test_the_keys_that_all_views_share_decide_and_else_the_number_of_the_row(store, features, keys):
    table = pa.table(SPINE)
    columns = [table.column(name) for name in keys] or [pa.array(range(50))]
    for i, result in enumerate(parts(store, table, features)):
        expected = np.flatnonzero(members(columns, Bucket(i, 3)))
        assert result.row_numbers().to_pylist() == expected.tolist()
        assert result.to_arrow().select(table.column_names).equals(table.take(pa.array(expected)))
        assert len(result) == len(expected)


def test_a_frame_keeps_its_index_and_columns(store):
    frame = pd.DataFrame(SPINE, index=[f"row {n}" for n in range(50)])
    whole = store.get_historical_features(frame, ["users:*"]).to_pandas()
    together = pd.concat([result.to_pandas() for result in parts(store, frame, ["users:*"])])
    pd.testing.assert_frame_equal(together.loc[frame.index], whole)
    polars = pl.DataFrame(SPINE).with_row_index()
    whole = store.get_historical_features(polars, ["users:*"]).to_polars()
    together = pl.concat([result.to_polars() for result in parts(store, polars, ["users:*"])])
    assert together.sort("index").equals(whole)


def test_buckets_of_a_parquet_file_and_of_a_query(store, tmp_path):
    pq.write_table(pa.table({"row": list(range(50)), **SPINE}), tmp_path / "spine.parquet", row_group_size=9)
    for spine in (tmp_path / "spine.parquet", f"SELECT * FROM read_parquet('{tmp_path}/spine.parquet')"):
        whole = store.get_historical_features(spine, ["users:*", "both:*"]).to_arrow()
        for rows in (4, 1_000):
            found = [batch for part in parts(store, spine, ["users:*", "both:*"]) for batch in part.to_batches(rows)]
            assert pa.Table.from_batches(found).sort_by("row").equals(whole)
            assert all(batch.num_rows <= rows for batch in found)


def test_a_query_without_a_shared_key_has_no_buckets(store):
    with pytest.raises(SpineError, match="share no join key"):
        store.get_historical_features("SELECT now() AS timestamp", ["all:*"], bucket=(0, 2))


def test_entities_have_buckets_but_no_row_numbers(store):
    found = parts(store, None, ["users:*"], at=NOON)
    users = [result.to_arrow().column("user").to_pylist() for result in found]
    assert sorted(user for some in users for user in some) == list(range(20))
    assert all(members([pa.array(some)], Bucket(i, 3)).all() for i, some in enumerate(users))
    assert [len(result) for result in parts(store, None, ["all:*"], at=NOON)] == [1, 0, 0]
    with pytest.raises(UsageError, match="a table or a file"):
        found[0].row_numbers()


def test_a_row_that_is_wrong_is_named_by_its_place_in_the_whole_spine(store):
    table = pa.table({**SPINE, "timestamp": [*SPINE["timestamp"][:40], None, *SPINE["timestamp"][41:]]})
    for result in parts(store, table, ["users:*"]):
        with pytest.raises(SpineError, match="row 40 "):
            result.to_arrow()


def test_a_bucket_that_is_none_is_refused(store):
    with pytest.raises(UsageError, match="0 <= i < n"):
        store.get_historical_features(pa.table(SPINE), ["users:*"], bucket=(3, 3))


def test_of_hive_partitions_by_the_key_only_those_of_the_bucket_are_read(tmp_path):
    user = hw.Entity("user", join_keys={"user": hw.Int64})
    source = hw.ParquetSource("rows", event_time="at")
    view = hw.FeatureView("users", entity=user, source=source, features=[hw.Feature("x", hw.Float64)])
    users = pa.array(range(8))
    spine = pa.table({"user": users, "timestamp": [NOON] * 8})
    for user_id in range(8):
        folder = tmp_path / "rows" / f"user={user_id}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"at": [NOON] * 500, "x": [float(user_id)] * 500}), folder / "a.parquet")
    with hw.FeatureStore(tmp_path) as store:
        store.apply([user, view])
        for user_id in users.filter(pa.array(members([users], Bucket(1, 2)))).to_pylist():
            damaged = tmp_path / "rows" / f"user={user_id}" / "a.parquet"
            damaged.write_bytes(b"PAR1" + b"\xff" * 100 + damaged.read_bytes()[104:])
        here = members([users], Bucket(0, 2)).nonzero()[0]
        found = store.get_historical_features(spine, ["users:x"], bucket=(0, 2)).to_arrow()
        assert found.column("x").to_pylist() == [float(user_id) for user_id in here]
        with pytest.raises(hw.HeadwaterError):
            store.get_historical_features(spine, ["users:x"], bucket=(1, 2)).to_arrow()
