"""CSV files as teams have them: read as they are said to be written, or refused with file and line."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.definitions.csv_format import CSVFormat
from headwater.errors import DefinitionError, HeadwaterError, SourceError
from headwater.offline.csv_files import check_records, is_plain, read_records
from headwater.offline.engines.duckdb import DuckDBEngine
from headwater.offline.engines.duckdb_csv import csv_query

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
ORDER = hw.Entity("order", join_keys={"order": hw.String})
GERMAN = {"delimiter": ";", "decimal": ",", "timestamp_format": "%d.%m.%Y %H:%M"}
GOOD = "order,t,paid\n" + "".join(f"A{i},2026-06-01,{i}\n" for i in range(50))


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine()
    yield engine
    engine.close()


def paid(folder: Path, content: str | bytes, *orders: str, name: str = "orders.csv", **options: Any) -> list[Any]:
    """The values of some orders in a file."""
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    dtype = options.pop("dtype", hw.Float64)
    source = hw.CSVSource(name, event_time="t", **options)
    view = hw.FeatureView("v", entity=ORDER, source=source, features=[hw.Feature("paid", dtype)])
    with hw.FeatureStore.in_memory([ORDER, view], path=folder, clock=lambda: NOON) as store:
        spine = [{"order": order, "timestamp": NOON} for order in orders or ("A1", "B2")]
        return list(store.get_historical_features(spine, ["v:paid"]).to_arrow()["paid"].to_pylist())


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("order,t,paid\nA1,2026-06-01,5.0\nB2,2026-06-01,6.0\n", {}),
        ("order,t,paid\r\nA1,2026-06-01,5.0\r\nB2,2026-06-01,6.0\r\n", {}),
        ("order,t,paid\nA1,2026-06-01,5.0\r\nB2,2026-06-01,6.0\n", {}),
        ("order,t,paid\rA1,2026-06-01,5.0\rB2,2026-06-01,6.0", {}),
        ("\ufefforder,t,paid\nA1,2026-06-01,5.0\nB2,2026-06-01,6.0\n", {}),
        ("order;t;paid\nA1;01.06.2026 10:00;5,0\nB2;01.06.2026 10:00;6,0\n", GERMAN),
        ("Orders\nof June\norder,t,paid\nA1,2026-06-01,5.0\nB2,2026-06-01,6.0\n", {"skip": 2}),
        ("# by a job\norder,t,paid\nA1,2026-06-01,5.0\n# half\nB2,2026-06-01,6.0\n# end\n", {"comment": "#"}),
        ("order,t,paid\n'A1','2026-06-01',5.0\n'B2',2026-06-01,6.0\n", {"quote": "'", "escape": "'"}),
        ("order,t,paid\n\"A1\",2026-06-01,5.0\n\"B2\",2026-06-01,6.0\n", {"escape": "\\"}),
        ("order\tt\tpaid\nA1\t2026-06-01\t5.0\nB2\t2026-06-01\t6.0\n", {"name": "orders.TSV"}),
        ("order|t|paid\nA1|2026-06-01|5.0\nB2|2026-06-01|6.0\n", {"delimiter": "|", "name": "orders.txt"}),
        ("order,t,paid\nA1,2026-06-01,5.0\nB2,2026-06-01,6.0\n".encode("utf-16"), {"encoding": "utf-16"}),
        ("order,t,paid,wo\nA1,2026-06-01,5.0,Zürich\nB2,2026-06-01,6.0,x\n".encode("latin-1"), {"encoding": "latin-1"}),
        (gzip.compress(b"order,t,paid\nA1,2026-06-01,5.0\nB2,2026-06-01,6.0\n", mtime=0), {"name": "orders.csv.gz"}),
        (",order,t,paid\n0,A1,2026-06-01,5.0\n1,B2,2026-06-01,6.0\n", {}),
        ("order,t,paid,note\nA1,2026-06-01,5.0,\"two\r\n\nlines\"\nB2,2026-06-01,6.0,\u2028\n", {}),
    ],
)  # fmt: skip
def test_files_of_many_tools(tmp_path: Path, content: str | bytes, options: dict[str, Any]) -> None:
    assert paid(tmp_path, content, **options) == [5.0, 6.0]


def test_thousands(tmp_path: Path) -> None:
    assert paid(tmp_path, 'order,t,paid\nA1,2026-06-01,"1,234.5"\n', "A1", thousands=",") == [1234.5]


def test_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text("A1,2026-06-01,5.0\n")
    source = hw.CSVSource("o.csv", event_time="column1", header=False)
    feature = hw.Feature("paid", hw.Float64, column="column2")
    view = hw.FeatureView("v", entity=ORDER, source=source, join_key_map={"order": "column0"}, features=[feature])
    with hw.FeatureStore.in_memory([ORDER, view], path=tmp_path, clock=lambda: NOON) as store:
        store.materialize()
        assert store.get_online_features(["v:paid"], ["A1"]).to_dict()["paid"] == [5.0]


def test_no_row_is_taken_for_a_comment(tmp_path: Path) -> None:
    assert paid(tmp_path, "order,t,paid\n#1,2026-06-01,5.0\nB2,2026-06-01,6.0\n", "#1", "B2") == [5.0, 6.0]


def test_nulls_may_be_none_at_all(tmp_path: Path) -> None:
    text = "order,t,paid\nNA,2026-06-01,\n"
    assert paid(tmp_path, text, "NA", nulls=(), dtype=hw.String) == [""]
    assert paid(tmp_path, text, "NA", nulls=("",), dtype=hw.String) == [None]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("order,t,paid\n#1,2026-06-01,5.0\n# end\n", "line 3 has 1 field, the header names 3: # end; a comment?"),
        ("order,t,paid\nA1,2026-06-01,5.0\norder,t,paid,tax\n", "line 3 has 4 fields, the header names 3"),
        (GOOD + "B2,2026-06-01\n", "line 52 has 2 fields, the header names 3: B2,2026-06-01"),
        (GOOD + 'B2,2026-06-01,"5\n', "line 52: a quote '\"' that is opened here is never closed"),
        (GOOD + 'B2,2026-06-01,"5"x\n', "line 52: text follows a closing quote"),
        (GOOD.encode() + "Zürich,2026-06-01,1\n".encode("latin-1"), "line 52 is not utf-8: Z"),
        (GOOD.encode("utf-16"), "begins with the byte order mark of UTF-16, but is read as utf-8: encoding='utf-16'"),
        ("", "the file is empty"),
        ('order,t,note,paid\nA1,2026-06-01,"two\n\nlines",1\nB2,2026-06-01,b,oops\n', "line 5, column 'paid': 'oops'"),
        ("order,t,paid\nA1,01/06/2026,1\n", "is not a time (ISO 8601; else state timestamp_format="),
        ("order,t,paid\nA1,2026-06-01,\"1,5\"\n", "'1,5' is not float64 (decimal=',' or thousands="),
    ],
)  # fmt: skip
def test_what_is_no_row_is_named_with_its_line(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(HeadwaterError) as bad:
        paid(tmp_path, content)
    assert "orders.csv" in str(bad.value) and said in str(bad.value)
    assert "duckdb" not in str(bad.value).lower() and "strict" not in str(bad.value)


@pytest.mark.parametrize(
    ("text", "dtype"),
    [("[1.5, 2.5]", hw.Array(hw.Int64)), ("[99999999999]", hw.Array(hw.Int32)), ("[300, yes]", hw.Array(hw.Bool))],
)
def test_elements_of_lists_are_refused_as_columns_are(tmp_path: Path, text: str, dtype: Any) -> None:
    with pytest.raises(HeadwaterError, match="line 2, column 'paid'"):
        paid(tmp_path, f'order,t,paid\nA1,2026-06-01,"{text}"\n', dtype=dtype)
    assert paid(tmp_path, 'order,t,paid\nA1,2026-06-01,"[1, null]"\n', "A1", dtype=hw.Array(hw.Int64)) == [[1, None]]


def test_files_of_other_columns_are_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/1.csv").write_text("order,t,paid\nA1,2026-06-01,5.0\n")
    (tmp_path / "d/2.csv").write_text("paid,tax,order,t\n6.0,1,B2,2026-06-01\n")
    source = hw.CSVSource("d", event_time="t")
    features = [hw.Feature("paid", hw.Float64), hw.Feature("tax", hw.Int64)]
    view = hw.FeatureView("v", entity=ORDER, source=source, features=features)
    with hw.FeatureStore.in_memory([ORDER, view], path=tmp_path, clock=lambda: NOON) as store:
        store.materialize()
        read = store.get_online_features(["v:*"], ["A1", "B2"]).to_dict()
        assert (read["paid"], read["tax"]) == ([5.0, 6.0], [None, 1])
        (tmp_path / "d/3.csv").write_text("order,paid\nC3,6.0\n")
        with pytest.raises(HeadwaterError, match=r"3\.csv: no column 't'"):
            store.materialize()


def test_a_name_that_two_columns_have_is_refused_where_it_is_used(tmp_path: Path) -> None:
    with pytest.raises(HeadwaterError, match=r"orders\.csv: two columns are named 'paid'; rename one"):
        paid(tmp_path, "order,t,paid,paid\nA1,2026-06-01,5.0,7.0\n")
    assert paid(tmp_path, "order,t,paid,x,x\nA1,2026-06-01,5.0,7.0,8.0\n", "A1") == [5.0]


def test_an_empty_file_without_a_header_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/1.csv").write_text("")
    (tmp_path / "d/2.csv").write_text("A1,2026-06-01,5.0\n")
    source = hw.CSVSource("d", event_time="column1", header=False)
    feature = hw.Feature("paid", hw.Float64, column="column2")
    view = hw.FeatureView("v", entity=ORDER, source=source, join_key_map={"order": "column0"}, features=[feature])
    with hw.FeatureStore.in_memory([ORDER, view], path=tmp_path, clock=lambda: NOON) as store:
        store.materialize()
        assert store.get_online_features(["v:paid"], ["A1"]).to_dict()["paid"] == [5.0]


def test_a_query_sees_text_unless_the_source_says_more(tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text("order,t,paid\nA1,2026-06-01,007\n")

    def view(table: hw.CSVSource, dtype: Any) -> hw.FeatureView:
        source = hw.SQLSource("SELECT * FROM o", tables={"o": table}, event_time="t")
        return hw.FeatureView("v", entity=ORDER, source=source, features=[hw.Feature("paid", dtype)])

    with pytest.raises(DefinitionError) as bad:
        hw.FeatureStore.in_memory([view(hw.CSVSource("o.csv"), hw.Int64)], path=tmp_path)
    assert "schema={'paid': hw.Int64} in tables['o']" in str(bad.value)
    times = {"t": hw.Timestamp}
    for table, dtype, value in (
        (hw.CSVSource("o.csv", schema=times), hw.String, "007"),
        (hw.CSVSource("o.csv", schema=times | {"paid": hw.Int64}), hw.Int64, 7),
    ):
        with hw.FeatureStore.in_memory([view(table, dtype)], path=tmp_path, clock=lambda: NOON) as store:
            spine = [{"order": "A1", "timestamp": NOON}]
            assert store.get_historical_features(spine, ["v:paid"]).to_arrow()["paid"].to_pylist() == [value]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"delimiter": "||"}, "source.delimiter: one character is needed, not '||'"),
        ({"quote": ","  , "delimiter": ","}, "source.delimiter: ',' is also the quote"),
        ({"decimal": ",", "thousands": ","}, "source.thousands: ',' is also the decimal mark"),
        ({"skip": -1}, "source.skip: a number of lines is needed"),
        ({"encoding": "utf-9"}, "source.encoding: 'utf-9' is not a known encoding"),
        ({"date_format": "%Q"}, "source.date_format: '%Q': %Q is not known"),
    ],
)  # fmt: skip
def test_options_that_cannot_be(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError) as bad:
        paid(tmp_path, GOOD, **options)
    assert said in str(bad.value)


CELLS = st.text('ab,"\n #\\é', max_size=14)
HEADS = st.sampled_from(["a,b\n", "a\n", "a,b,c\n"])
FORMS = st.sampled_from([CSVFormat(), CSVFormat(quote=None)])


@settings(deadline=None)
@given(CELLS, HEADS, FORMS)
def test_files_that_are_plain_are_read_as_others_are(
    engine: DuckDBEngine, tmp_path_factory: pytest.TempPathFactory, body: str, head: str, form: CSVFormat
) -> None:
    """DuckDB reads what is plain, Python the rest; both find the same rows, or both refuse them."""
    file = tmp_path_factory.mktemp("plain") / "p.csv"
    file.write_text(head + body)
    assert is_plain(str(file), form, "")
    try:
        check_records(str(file), form, "")
        width = head.count(",") + 1
        rows = [tuple(row[:width]) for _, row in read_records(str(file), form, "")][1:]
    except SourceError:
        rows = None
    source = hw.CSVSource(str(file), nulls=(), quote=form.quote)
    with engine._workspace() as space:
        try:
            got = space.fetch(csv_query(space, source, file.parent, ""))
        except SourceError:
            got = None
    blank_aside = [row for row in got if row != (None,)] if got is not None and width_of(head) == 1 else got
    if rows is not None:
        assert [row for row in blank_aside or [] if row != ("",)] == [row for row in rows if row != ("",)]


def width_of(head: str) -> int:
    return head.count(",") + 1
