"""What errors say about text that is not of its dtype works as it is typed."""

from __future__ import annotations

import gzip
import re
import shlex
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.cli.files import csv_options
from headwater.definitions.csv_format import CSVFormat
from headwater.definitions.source_checks import _RESERVED
from headwater.errors import nearest
from headwater.planning.text_hints import text_hint
from headwater.planning.text_values import value_of_text
from headwater.testing import rounds

FORMATS = [
    f"{day}{tail}"
    for day in (
        "%d.%m.%Y",
        "%d/%m/%Y",
        "%m/%d/%Y",
        "%Y/%m/%d",
        "%Y%m%d",
        "%d-%m-%Y",
        "%b %d, %Y",
        "%d-%b-%Y",
        "%d.%m.%y",
    )
    for tail in ("", " %H:%M", " %H:%M:%S", "T%H:%M:%S.%f", " %I:%M %p", " %H:%M:%S %z", "T%H%M%S%z")
]
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
DEVICE = hw.Entity("device", join_keys={"id": hw.Int64})


def options_in(hint: str) -> list[CSVFormat]:
    """The formats that a hint names, by what a `CSVSource` takes and by what the command takes."""
    if "--csv" in hint:
        words = [shlex.split(part.split(" where ")[0].rstrip(")")) for part in hint.split("--csv ")[1:]]
        return [csv_options([word[0]]) for word in words]
    return [CSVFormat(**{n: eval(v)}) for n, v in re.findall(r"(\w+)=('[^']*'|\"[^\"]*\")", hint)]


@settings(max_examples=rounds(30), deadline=None)
@given(
    st.datetimes(datetime(1970, 1, 1), datetime(2068, 1, 1), timezones=st.just(UTC)),
    st.sampled_from(FORMATS),
    st.booleans(),
)
def test_the_format_that_is_named_reads_the_text(at: datetime, written: str, command: bool) -> None:
    text = at.strftime(written)
    found = options_in(text_hint(text, hw.Timestamp, CSVFormat(), "at", command=command))
    right = value_of_text(text, hw.Timestamp, CSVFormat(timestamp_format=written))
    assert right in [value_of_text(text, hw.Timestamp, form) for form in found]


@pytest.mark.parametrize(
    ("text", "form", "value"),
    [
        ("1,5", CSVFormat(), 1.5),
        ("1.234,5", CSVFormat(decimal=","), 1234.5),
        ("1,234.5", CSVFormat(), 1234.5),
        ("1'234.5", CSVFormat(), 1234.5),
    ],
)
def test_the_marks_that_are_named_read_the_number(text: str, form: CSVFormat, value: float) -> None:
    (made,) = options_in(text_hint(text, hw.Float64, form, "v"))
    assert value_of_text(text, hw.Float64, CSVFormat(**{**form.meaning, **made.meaning})) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("T", "timestamp_format='%d.%m.%Y %H:%M', as it is written"),
        ("2026-06-01T24:00:00", "00:00 of the next day"),
        ("infinity", r"nulls=\('', 'NA', 'NULL', 'infinity'\) makes it NULL"),
    ],
)
def test_times_that_no_format_reads(text: str, said: str) -> None:
    assert re.search(said, text_hint(text, hw.Timestamp, CSVFormat(), "at"))


def test_a_format_is_left_out_where_the_text_is_iso() -> None:
    hint = text_hint("2026-06-01", hw.Timestamp, CSVFormat(timestamp_format="%d.%m.%Y"), "at")
    assert "ISO 8601: leave timestamp_format out" in hint


@pytest.mark.one_in(2)
@pytest.mark.parametrize("digits", ["1780308000", "1780308000000", "1780308000000000", "1780308000000000000"])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_the_query_that_is_named_reads_numbers_as_times(tmp_path: Path, digits: str, name: str) -> None:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=1780308000)
    content = f"id,at,v\n1,{digits},1\n" if name == "t.csv" else f'{{"id": 1, "at": {digits}, "v": 1}}\n'
    (tmp_path / name).write_text(content)
    types: dict[str, Any] = {"id": hw.Int64, "v": hw.Float64}
    plain = hw.CSVSource(name, event_time="at") if name == "t.csv" else hw.JSONSource(name, event_time="at")
    view = hw.FeatureView("v", entity=DEVICE, source=plain, features=[hw.Feature("v", hw.Float64)])
    with (
        hw.FeatureStore.in_memory([DEVICE, view], path=tmp_path, clock=lambda: NOON) as store,
        pytest.raises(hw.HeadwaterError) as raised,
    ):
        store.get_historical_features([{"id": 1, "timestamp": at}], ["v:v"]).to_arrow()
    (query,) = re.findall(r"SQLSource\('(SELECT .* FROM t)', …\)", str(raised.value))
    table = hw.CSVSource(name, schema=types) if name == "t.csv" else hw.JSONSource(name, schema=types)
    source = hw.SQLSource(query, tables={"t": table}, event_time="at")
    view = hw.FeatureView("v", entity=DEVICE, source=source, features=[hw.Feature("v", hw.Float64)])
    with hw.FeatureStore.in_memory([DEVICE, view], path=tmp_path, clock=lambda: NOON) as store:
        spine = [{"id": 1, "timestamp": at}, {"id": 1, "timestamp": at - timedelta(seconds=1)}]
        assert store.get_historical_features(spine, ["v:v"]).to_arrow()["v"].to_pylist() == [1.0, None]


@pytest.mark.parametrize("day", ["31.05.2026", "31.05.2026 23:00:00"])
def test_times_of_one_file_that_are_written_differently(tmp_path: Path, day: str) -> None:
    (tmp_path / "t.csv").write_text(f"id;day;seen;v\n1;{day};01.06.2026 08:00;1,5\n")
    stated: dict[str, Any] = {"timestamp_format": "%d.%m.%Y %H:%M", "decimal": ",", "delimiter": ";"}
    types = {"id": hw.Int64, "seen": hw.Timestamp, "v": hw.Float64}
    times = {"event_time": "day", "created_time": "seen"}

    def found(source: hw.CSVSource | hw.SQLSource) -> list[float | None]:
        view = hw.FeatureView("v", entity=DEVICE, source=source, features=[hw.Feature("v", hw.Float64)])
        with hw.FeatureStore.in_memory([DEVICE, view], path=tmp_path, clock=lambda: NOON) as store:
            spine = [{"id": 1, "timestamp": NOON - timedelta(hours=h)} for h in (4, 5)]
            return store.get_historical_features(spine, ["v:v"]).to_arrow()["v"].to_pylist()

    with pytest.raises(hw.HeadwaterError) as raised:
        found(hw.CSVSource("t.csv", **times, **stated))
    (query,) = re.findall(r"SQLSource\('(SELECT .* FROM t)', …\)", str(raised.value))
    table = hw.CSVSource("t.csv", schema=types, **stated)
    assert found(hw.SQLSource(query.replace("''", "'"), tables={"t": table}, **times)) == [1.5, None]


def made(folder: Path) -> dict[str, Path]:
    """Files of many kinds, none named as what it is."""
    table = pa.table({"id": [1]})
    pq.write_table(table, folder / "parquet")
    pyarrow.feather.write_feather(table, str(folder / "feather"))
    (folder / "gzip").write_bytes(gzip.compress(b"id\n1\n"))
    (folder / "zip").write_bytes(b"PK\x03\x04" + bytes(40))
    with sqlite3.connect(folder / "sqlite") as connection:
        connection.execute("CREATE TABLE t (id INTEGER)")
    connection.close()
    duckdb.connect(str(folder / "duckdb")).close()
    (folder / "csv").write_text("id\n1\n")
    (folder / "json").write_text('{"id": 1}\n')
    (folder / "empty").write_text("")
    return {path.name: path for path in folder.iterdir()}


SAID = {
    "parquet": "a Parquet file, .*hw.ParquetSource",
    "feather": "an Arrow.*feather.read_table",
    "gzip": r"compressed with gzip.*\.gz",
    "zip": "a zip file or an Excel workbook",
    "sqlite": "a SQLite database",
    "duckdb": "a DuckDB database",
    "csv": "text.*hw.CSVSource",
    "json": "JSON.*hw.JSONSource",
    "empty": "empty",
}


@pytest.mark.parametrize("kind", list(SAID))
@pytest.mark.parametrize("source", [hw.CSVSource, hw.JSONSource, hw.ParquetSource])
def test_a_file_of_another_kind_is_named_with_what_reads_it(tmp_path: Path, kind: str, source: Any) -> None:
    (tmp_path / "made").mkdir()
    named = {hw.CSVSource: "csv", hw.JSONSource: "json", hw.ParquetSource: "parquet"}[source]
    if kind == named or (source is not hw.ParquetSource and kind in ("csv", "json", "empty")):
        return
    path = made(tmp_path / "made")[kind].rename(tmp_path / f"x.{named}")
    view = hw.FeatureView("v", entity=DEVICE, source=source(path.name), features=[hw.Feature("v", hw.Float64)])
    with pytest.raises(hw.HeadwaterError, match=rf"x\.{named} is {SAID[kind]}"):
        hw.FeatureStore.in_memory([DEVICE, view], path=tmp_path)


def test_every_word_that_duckdb_takes_in_quotes_alone_is_known() -> None:
    with duckdb.connect() as connection:
        words = [word for (word,) in connection.sql("SELECT keyword_name FROM duckdb_keywords()").fetchall()]
        for word in words:
            connection.execute(f'CREATE OR REPLACE TABLE t AS SELECT 1 AS id, 2 AS "{word}", 3 AS v')
            try:
                connection.execute(f"SELECT id, {word}, v FROM t")
            except duckdb.Error:
                assert word in _RESERVED


@pytest.mark.parametrize("word", ["at", "order", "asof", "outer"])
def test_a_reserved_word_in_a_query_is_named(tmp_path: Path, word: str) -> None:
    pq.write_table(pa.table({"id": [1], word: [NOON], "v": [1.0]}), tmp_path / "f.parquet")
    tables = {"p": hw.ParquetSource("f.parquet")}
    for query, good in ((f"SELECT id, {word}, v FROM p", False), (f'SELECT id, "{word}", v FROM p', True)):
        source = hw.SQLSource(query, tables=tables, event_time=word)
        view = hw.FeatureView("v", entity=DEVICE, source=source, features=[hw.Feature("v", hw.Float64)])
        if good:
            hw.FeatureStore.in_memory([DEVICE, view], path=tmp_path).close()
        else:
            with pytest.raises(hw.HeadwaterError, match=f'{word} is a reserved SQL keyword; write "{word}"'):
                hw.FeatureStore.in_memory([DEVICE, view], path=tmp_path)


def test_a_name_that_differs_only_in_case_is_the_nearest() -> None:
    assert nearest("amount", ["AMOUNTS", "AMOUNT"]) == "; did you mean 'AMOUNT'?"


def test_an_index_that_a_frame_only_describes_is_named(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"v": [1.0]}, index=pandas.RangeIndex(1, name="id"))
    frame.to_parquet(tmp_path / "i.parquet")
    view = hw.FeatureView(
        "v", entity=DEVICE, source=hw.ParquetSource("i.parquet"), features=[hw.Feature("v", hw.Float64)]
    )
    with pytest.raises(hw.HeadwaterError, match=r"write frame\.reset_index\(\) instead"):
        hw.FeatureStore.in_memory([DEVICE, view], path=tmp_path)
