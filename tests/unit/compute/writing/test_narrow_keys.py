"""Join keys of 32 bits: a value that they cannot have is refused where it comes in, whatever the integer's width."""

from datetime import UTC, datetime
from pathlib import Path

import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

import headwater as hw
from headwater.errors import RowsRejected, SourceError
from headwater.testing import rounds

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
USER = hw.Entity("user", {"user": hw.Int32})
EDGES = [0, 1, -1, 2**31 - 1, -(2**31), 2**31, -(2**31) - 1, 2**40, -(2**63), 2**63 - 1]
WIDTHS = (pa.int64(), pa.int32(), pa.uint32(), pa.int16(), pa.float64(), pa.decimal128(20, 0))


def view(source: hw.definitions.sources.Source) -> hw.FeatureView:
    return hw.FeatureView("v", entity=USER, source=source, features=[hw.Feature("x", hw.Float64)])


def fits(key: int) -> bool:
    return -(2**31) <= key < 2**31


@settings(max_examples=rounds(5), deadline=None)
@given(st.lists(st.sampled_from(EDGES), min_size=1, max_size=4, unique=True), st.sampled_from(WIDTHS))
def test_what_is_taken_is_served_and_what_is_refused_leaves_nothing(tmp_path_factory, keys, width):
    try:
        column = pa.array(keys, width)
    except (pa.ArrowInvalid, OverflowError):
        return
    if width == pa.float64() and any(abs(key) >= 2**53 for key in keys):
        return
    table = pa.table({"user": column, "at": [NOON] * len(keys), "x": [float(i) for i in range(len(keys))]})
    good = all(map(fits, keys))
    path = tmp_path_factory.mktemp("keys") / "rows.parquet"
    pq.write_table(table, path)
    for source in (hw.PushSource(event_time="at"), hw.ParquetSource(str(path), event_time="at")):
        with hw.FeatureStore.in_memory([view(source)], clock=lambda: NOON) as store:
            if isinstance(source, hw.PushSource):
                if good:
                    store.write("v", table)
                else:
                    with pytest.raises(RowsRejected, match="int32"):
                        store.write("v", table)
            elif not good:
                with pytest.raises(SourceError, match=r"rows\.parquet.*int32|int32.*rows\.parquet"):
                    store.materialize()
                continue
            store.materialize()
            everything = store.get_historical_features(None, ["v:x"], at=NOON).to_arrow()
            assert everything.num_rows == (len(keys) if good else 0)
            served = store.get_online_features(["v:x"], keys).to_dict()["x"]
            assert served == (table.column("x").to_pylist() if good else [None] * len(keys))


def test_a_row_that_an_earlier_release_took_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No store can take it: it is left out, and the others go on."""
    rows = [{"user": key, "at": NOON, "x": 1.0} for key in (2**31, 7)]
    with hw.FeatureStore(tmp_path, clock=lambda: NOON) as store:
        store.apply([view(hw.PushSource(event_time="at"))])
        with monkeypatch.context() as patch:
            patch.setattr("headwater.compute.writing.taken_rows._too_wide", lambda *_: {})
            store.write("v", rows, to="offline")
        store.materialize()
        assert store.get_online_features(["v:x"], [7]).to_dict()["x"] == [1.0]
        assert store.get_historical_features(None, ["v:x"], at=NOON).to_arrow().column("user").to_pylist() == [7]
