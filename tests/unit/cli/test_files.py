"""Tables in files: read with the dtypes that definitions say, written whole or not at all."""

import json
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.cli.files import read_table, source_columns, write_csv
from headwater.errors import DataError, StoreReadOnly, UsageError
from headwater.planning.tables import as_table

WHEN = datetime(2026, 7, 1, 12, tzinfo=UTC)
DTYPES = {
    "code": hw.String,
    "time": hw.Timestamp,
    "day": hw.Date,
    "count": hw.Int64,
    "temp": hw.Float64,
    "ok": hw.Bool,
    "tags": hw.Array(hw.String),
}
ROW = {"code": "007", "time": WHEN, "day": date(2026, 7, 1), "count": 3, "temp": 1.0, "ok": True, "tags": ["a", None]}
CSV = 'code,time,day,count,temp,ok,tags,more\n007,2026-07-01T12:00:00Z,2026-07-01,3,1,true,"[""a"", null]",5\n'


def test_the_columns_of_a_view_s_source_have_their_dtypes():
    view = hw.FeatureView(
        "weather",
        entity=hw.Entity("airport", join_keys={"airport": hw.String}),
        source=hw.ParquetSource("w.parquet", event_time="time", created_time="seen"),
        join_key_map={"airport": "code"},
        features=[hw.Feature("temp", hw.Float64, column="temp_f")],
    )
    times = {"time": hw.Timestamp, "seen": hw.Timestamp, "created_time": hw.Timestamp}
    assert source_columns(view) == {"code": hw.String, "temp_f": hw.Float64, **times}


def test_csv_columns_are_of_the_dtypes_that_are_known(tmp_path):
    (tmp_path / "rows.csv").write_text(CSV, encoding="utf-8")
    columns = read_table(tmp_path / "rows.csv", DTYPES)
    assert as_table(columns, "rows").to_pylist() == [ROW | {"more": "5"}]


def test_csv_texts_for_null_are_null(tmp_path):
    (tmp_path / "rows.csv").write_text("code,temp\nNA,\n,NULL\n", encoding="utf-8")
    assert read_table(tmp_path / "rows.csv", DTYPES).to_pylist() == [{"code": None, "temp": None}] * 2


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_json_rows(tmp_path, suffix):
    row = ROW | {"time": "2026-07-01T12:00:00Z", "day": "2026-07-01"}
    text = json.dumps([row, row]) if suffix == ".json" else f"{json.dumps(row)}\n\n{json.dumps(row)}\n"
    path = tmp_path / f"rows{suffix}"
    path.write_text(text, encoding="utf-8")
    assert read_table(path, DTYPES) == [ROW, ROW]


def test_parquet_is_as_it_is(tmp_path):
    table = pa.table({"code": ["JFK"], "temp": [1]})
    pq.write_table(table, tmp_path / "rows.parquet")
    assert read_table(tmp_path / "rows.parquet", DTYPES) == table


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("rows.csv", "code,temp\nJFK,warm\n", ["line 2", "'temp'", "'warm'", "float64"]),
        ("rows.csv", "code,time\nJFK,noon\n", ["line 2", "'time'", "'noon'", "timestamp"]),
        ("rows.csv", "code,temp\nJFK\n", ["rows.csv"]),
        ("rows.csv", "", ["rows.csv"]),
        ("rows.json", "{", ["not JSON"]),
        ("rows.json", "3", ["an array of objects"]),
        ("rows.json", "[3]", ["row 0", "3"]),
        ("rows.json", '[{"time": "noon"}]', ["row 0", "'time'", "'noon'"]),
        ("rows.jsonl", "{}\n{\n", ["line 2", "not JSON"]),
        ("rows.parquet", "not parquet", ["rows.parquet"]),
    ],
)
def test_an_unreadable_file_says_where(tmp_path, name, text, parts):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_table(tmp_path / name, DTYPES)
    for part in [name, *parts]:
        assert part in str(caught.value)


def test_a_missing_file_and_a_foreign_kind(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / "rows.csv", {})
    with pytest.raises(UsageError, match=r"\.parquet, \.csv, \.tsv, \.json, \.jsonl"):
        read_table(tmp_path / "rows.xlsx", {})


def test_csv_is_written_with_what_it_can_hold(tmp_path):
    batch = pa.RecordBatch.from_pylist([{"code": "a,b", "tags": [1, None], "raw": b"\x01", "n": 2}])
    assert write_csv(tmp_path / "out.csv", [batch, batch]) == 2
    line = '"a,b","[1, null]",0x01,2'
    assert (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines() == ["code,tags,raw,n", line, line]


def test_a_csv_that_fails_half_way_is_not_there(tmp_path):
    def batches():
        yield pa.RecordBatch.from_pylist([{"n": 1}])
        raise KeyboardInterrupt

    (tmp_path / "out.csv").write_text("before", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        write_csv(tmp_path / "out.csv", batches())
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(StoreReadOnly, match=r"out\.csv: cannot write: folder .*nowhere does not exist"):
        write_csv(tmp_path / "nowhere" / "out.csv", [pa.RecordBatch.from_pylist([{"n": 1}])])


def test_two_columns_of_one_name_are_refused_where_that_name_is_read(tmp_path):
    path = tmp_path / "spine.csv"
    path.write_text("code,timestamp,code\nJFK,2026-06-01,LGA\n")
    with pytest.raises(DataError, match=r"two columns are named 'code' \(columns 1 and 3\)"):
        read_table(path, {"code": hw.String})
    assert read_table(path, {}).num_rows == 1
