"""What `history -o x.csv` writes is read back as the same values: by `CSVSource`, as a spine, and by `write`."""

from __future__ import annotations

import math
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.cli.files import read_table, write_csv
from headwater.planning.tables import as_table
from headwater.testing import rounds
from headwater.types import DType

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
TEXTS = TEXT | st.sampled_from(["", "NA", "NULL", '""', '"', "a,b", " a ", "\r", "\n", "0x61", "-", "#x", "[1]"])
FLOATS = st.floats() | st.sampled_from([2.0**53, 2.0**53 + 2, -(2.0**60), 1e22, 2.0**24 + 2, -0.0])
NARROW = st.floats(width=32) | st.sampled_from([2.0**24 + 2, 2.0**40]).map(lambda x: float(np.float32(x)))
VALUES: dict[DType, st.SearchStrategy[Any]] = {
    hw.Int32: st.integers(-(2**31), 2**31 - 1),
    hw.Int64: st.integers(-(2**63), 2**63 - 1),
    hw.Float32: NARROW,
    hw.Float64: FLOATS,
    hw.Bool: st.booleans(),
    hw.String: TEXTS,
    hw.Bytes: st.binary(max_size=4) | TEXTS.map(str.encode) | st.sampled_from([rb"\xff", rb"\\xff"]),
    hw.Timestamp: st.datetimes(timezones=st.just(UTC)),
    hw.Date: st.dates(),
    hw.Array(hw.String): st.lists(st.none() | TEXTS, max_size=2),
    hw.Array(hw.Bytes): st.lists(st.none() | st.binary(max_size=2), max_size=2),
    hw.Array(hw.Float64): st.lists(st.none() | st.floats(), max_size=2),
    hw.Array(hw.Timestamp): st.lists(st.datetimes(timezones=st.just(UTC)), max_size=2),
    hw.Embedding(2): st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=2),
}
DTYPES = {f"c{i}": dtype for i, dtype in enumerate(VALUES)}
ROWS = st.lists(st.fixed_dictionaries({n: st.none() | VALUES[d] for n, d in DTYPES.items()}), min_size=1, max_size=4)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        both_nan = math.isnan(one) and math.isnan(other)
        return both_nan or (one == other and math.copysign(1, one) == math.copysign(1, other))
    return type(one) is type(other) and bool(one == other)


@settings(max_examples=rounds(5), deadline=None)
@given(ROWS)
@example([dict.fromkeys(DTYPES)])
@example([dict.fromkeys(DTYPES) | {"c5": "", "c6": b""}, dict.fromkeys(DTYPES) | {"c5": "NA", "c6": b"NA"}])
def test_what_is_written_is_read_back(rows: list[dict[str, Any]]) -> None:
    arrays = {name: pa.array([row[name] for row in rows], dtype.arrow) for name, dtype in DTYPES.items()}
    given_rows = pa.table({"key": range(len(rows)), **arrays})
    with tempfile.TemporaryDirectory() as folder:
        write_csv(Path(folder) / "x.csv", given_rows.to_batches())
        key = hw.Entity("key", join_keys={"key": hw.Int64})
        features = [hw.Feature(name, dtype) for name, dtype in DTYPES.items()]
        view = hw.FeatureView("v", entity=key, source=hw.CSVSource("x.csv"), features=features)
        with hw.FeatureStore.in_memory([key, view], path=folder, clock=lambda: NOON) as store:
            spine = [{"key": i, "timestamp": NOON} for i in range(len(rows))]
            of_source = store.get_historical_features(spine, ["v:*"]).to_arrow().select(list(DTYPES)).to_pylist()
        of_write = as_table(read_table(Path(folder) / "x.csv", {"key": hw.Int64, **DTYPES}), "x").to_pylist()
    for right, one, other in zip(given_rows.to_pylist(), of_source, of_write, strict=True):
        for name in DTYPES:
            assert same(right[name], one[name]), (name, right[name], one[name])
            assert same(right[name], other[name]), (name, right[name], other[name])


@settings(max_examples=rounds(4), deadline=None)
@given(st.lists(st.none() | TEXTS, min_size=1, max_size=4))
@example([None, "", None])
def test_a_file_of_one_column_too(texts: list[str | None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_csv(Path(folder) / "x.csv", [pa.RecordBatch.from_pydict({"key": pa.array(texts, pa.string())})])
        found = read_table(Path(folder) / "x.csv", {"key": hw.String})
    assert isinstance(found, pa.Table) and found["key"].to_pylist() == texts


def test_keys_of_bytes_and_empty_texts_come_back_as_spine_and_rows(command, tmp_path) -> None:
    (tmp_path / "features.py").write_text(
        "import headwater as hw\n"
        'device = hw.Entity("device", join_keys={"device": hw.Bytes})\n'
        'features = [hw.Feature("blob", hw.Bytes), hw.Feature("note", hw.String), hw.Feature("day", hw.Date)]\n'
        'v = hw.FeatureView("v", entity=device, source=hw.PushSource(event_time="at"), features=features)\n'
    )
    command(tmp_path, "apply")
    rows = [
        {"device": b"ab", "at": NOON, "blob": b"\xff\x00", "note": "", "day": date(2026, 6, 1)},
        {"device": b"\xff\x01", "at": NOON, "blob": None, "note": None, "day": None},
        {"device": b"0x", "at": NOON, "blob": b"", "note": "NULL", "day": None},
    ]
    with hw.FeatureStore(tmp_path) as store:
        store.write("v", rows, created="event")
    out, again = tmp_path / "out.csv", tmp_path / "again.csv"
    command(tmp_path, "history", "--at", "2026-06-02", "--features", "v:*", "-o", out)
    lines = out.read_text().splitlines()
    assert lines[0] == "device,blob,note,day" and lines[1] in (
        '0x6162,0xff00,"",2026-06-01',
        "0xff01,,,",
        '0x3078,0x,"NULL",',
    )
    spine = ["history", out, "--at", "2026-06-02", "--features", "v:*", "--full-names"]
    command(tmp_path, *spine, "-o", again)
    for given_line, line in zip(lines[1:], again.read_text().splitlines()[1:], strict=True):
        assert line == given_line + "," + given_line.partition(",")[2]
    back = tmp_path / "back.csv"
    back.write_text("\n".join([lines[0] + ",at", *(f"{line},2026-06-03" for line in lines[1:])]) + "\n")
    command(tmp_path, "write", "v", back, "--created", "event")
    with hw.FeatureStore(tmp_path) as store:
        found = store.get_historical_features(None, ["v:*"], at=datetime(2026, 6, 4, tzinfo=UTC)).to_pylist()
    order = lambda row: row["device"]  # noqa: E731
    assert sorted(found, key=order) == sorted(
        ({name: value for name, value in row.items() if name != "at"} for row in rows), key=order
    )
