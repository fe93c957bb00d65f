"""CSV files as teams have them: read as they are said to be written, or refused with file and line."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.definitions.csv_format import CSV_OPTIONS, CSVFormat
from headwater.errors import DefinitionError, HeadwaterError, SourceError
from headwater.offline.engines.duckdb.csv_sources import csv_query
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.offline.engines.duckdb.opened import TextTable
from headwater.offline.files.csv_files import Quoted, is_plain, read_records
from headwater.testing import rounds

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
        ("order,t,paid\nA1,2026-06-01,\"1,5\"\n", "'1,5' is not float64 (decimal=',' where numbers"),
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
        ({"delimiter": "||"}, "source.delimiter: must be one character, not '||'"),
        ({"quote": ","  , "delimiter": ","}, "source.delimiter: ',' is also the quote"),
        ({"decimal": ",", "thousands": ","}, "source.thousands: ',' is also the decimal mark"),
        ({"skip": -1}, "source.skip: must be a number of lines"),
        ({"encoding": "utf-9"}, "source.encoding: 'utf-9' is not a known encoding"),
        ({"date_format": "%Q"}, "source.date_format: '%Q': %Q is not known"),
    ],
)  # fmt: skip
def test_options_that_cannot_be(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError) as bad:
        paid(tmp_path, GOOD, **options)
    assert said in str(bad.value)


PIECES = [
    "a",
    "b",
    "1",
    " ",
    "NA",
    "#",
    "\\",
    "é",
    "\u2028",
    "\x0b",
    "\t",
    "Q",
    "QQ",
    "QaDQ",
    "QxEyQ",
    "D",
    "D",
    "D",
    "E",
]
FORMS = st.builds(
    CSVFormat,
    delimiter=st.sampled_from([",", ",", ",", ";", "\t", " "]),
    quote=st.sampled_from(['"', '"', '"', "'", None]),
    escape=st.sampled_from(['"', '"', '"', "\\", None]),
    comment=st.sampled_from([None, None, None, "#"]),
    header=st.sampled_from([True, True, False]),
    skip=st.sampled_from([0, 0, 0, 1, 2]),
    nulls=st.sampled_from([("", "NA", "NULL"), (), ("a", "")]),
)


@st.composite
def csv_texts(draw: st.DrawFn) -> tuple[CSVFormat, str]:
    """A form, and a text that is more or less of it."""
    form, end = draw(FORMS), draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    width = draw(st.integers(1, 3))
    lines = ["D".join("xyz"[:width])] if draw(st.booleans()) else []
    field = st.lists(st.sampled_from(PIECES[:11]), max_size=2).map("".join)
    field |= field.map("Q{}Q".format) | st.sampled_from(["", "NA", "QQ", "QNAQ", "QaQQbQ", "QxEyQ", "QxDyQ"])
    good = st.lists(field, min_size=width, max_size=width).map("D".join)
    any_line = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
    lines += draw(st.lists(good | good | good | good.map("{}D".format) | any_line | st.just(""), max_size=4))
    text = "E".join(lines) + draw(st.sampled_from(["", "E"]))
    return form, text.replace("Q", form.quote or '"').replace("D", form.delimiter_of("")).replace("E", end)


class InQuotes(str):
    """A field that is in quotes."""


def records(text: str, form: CSVFormat) -> list[list[str]] | None:
    """The grammar, a character at a time; None where a text is not of it."""
    at, ends, delimiter = 0, ("\r\n", "\n", "\r"), form.delimiter_of("")

    def line_end() -> int:
        return next((len(end) for end in ends if text.startswith(end, at)), 0)

    def rest_of_line() -> None:
        nonlocal at
        while at < len(text) and not line_end():
            at += 1
        at += line_end()

    for _ in range(form.skip):
        rest_of_line()
    found: list[list[str]] = []
    while at < len(text):
        if form.comment is not None and text[at] == form.comment:
            rest_of_line()
            continue
        if line_end():
            at += line_end()
            if found and len(found[0]) == 1:
                found.append([""])
            continue
        record, more = [], True
        while more:
            field, quoted = "", text[at : at + 1] == form.quote
            if form.quote is not None and text[at : at + 1] == form.quote:
                at += 1
                while text[at : at + 1] != form.quote or (form.quote_escape == form.quote == text[at + 1 : at + 2]):
                    if at >= len(text):
                        return None
                    at += text[at] == form.quote_escape and text[at + 1 : at + 2] in (form.quote, form.quote_escape)
                    field += text[at]
                    at += 1
                at += 1
                if at < len(text) and not line_end() and text[at] != delimiter:
                    return None
            while at < len(text) and not line_end() and text[at] != delimiter:
                field += text[at]
                at += 1
            record.append(InQuotes(field) if quoted else field)
            more = text[at : at + 1] == delimiter
            at += more
        at += line_end()
        found.append(record)
    return found


def rows_of(text: str, form: CSVFormat) -> list[tuple[str | None, ...]] | None:
    """The rows of a text as a query sees them; None where it is refused."""
    found = records(text, form)
    if not found:
        return None
    width = len(found[0])
    cut = ("", *form.nulls)
    if any(len(r) != width and not (len(r) > width and all(f in cut for f in r[width:])) for r in found):
        return None

    def value(field: str) -> str | None:
        return None if field in form.nulls and not (isinstance(field, InQuotes) and form.keeps_quoted) else str(field)

    return [tuple(map(value, r[:width])) for r in found[form.header :]]


@settings(max_examples=rounds(40), deadline=None)
@given(case=csv_texts())
@example(case=(CSVFormat(), "\nx,y\n1,2\n"))
@example(case=(CSVFormat(), "x\n1\n\n2\n"))
@example(case=(CSVFormat(), 'x,y\n1, "a"\n'))
@example(case=(CSVFormat(), "x,y\n1,2,NA\n"))
@example(case=(CSVFormat(skip=2), '\r\n,\r\n,"x\r\ny"\r\n,'))
@example(case=(CSVFormat(quote=None), "x,y\n1,2,,\n"))
@example(case=(CSVFormat(skip=1), 'a "b\nx,y\n1,2\n'))
@example(case=(CSVFormat(quote="'"), 'x\nsay "a"\n'))
@example(case=(CSVFormat(escape="\\"), 'x\nC:\\a\n"C:\\a \\"b\\" \\\\"\n'))
@example(case=(CSVFormat(), "x\n" + "a" * 140_000))
def test_a_text_is_read_in_one_way(
    engine: DuckDBEngine, tmp_path_factory: pytest.TempPathFactory, case: tuple[CSVFormat, str]
) -> None:
    """DuckDB reads what is plain, Python the rest; both find what the grammar says, or refuse it."""
    form, text = case
    file = tmp_path_factory.mktemp("csv") / "p.csv"
    right = rows_of(text, form)
    for encoding in ("utf-8", "utf-16"):
        file.write_bytes(text.encode(encoding))
        options = {name: getattr(form, name) for name in CSV_OPTIONS} | {"encoding": encoding}
        with engine.workspace() as space:
            try:
                got = space.fetch(csv_query(space, hw.CSVSource(str(file), **options), TextTable(file.parent, "")))
            except SourceError:
                got = None
        assert got == right


@pytest.mark.parametrize(
    ("content", "options", "plain"),
    [
        (b'x,y\n1,"a ""b"" c"\n', {}, True),
        (b"x,y\n\n1,2\n\n", {}, True),
        (b"\xef\xbb\xbfx,y\r\n1,2\r\n", {}, True),
        (b"# by hand\nx,y\n1,2\n", {"skip": 1}, True),
        (b'x,y\n1,say "a"\n', {"quote": "'"}, True),
        (b"x,y\n1,2\r\n", {}, False),
        (b"\nx,y\n", {}, False),
        (b'x,y\n1, "a"\n', {}, False),
        (b'x,y\n1,"a" \n', {}, False),
        (b'x,y\n1,"a\n', {}, False),
        (b'say "a\nx,y\n', {"skip": 1}, False),
        (b"x,y\n\xe9,2\n", {"encoding": "ascii"}, False),
        (b"x,y\n1,2\n", {"escape": "\\"}, False),
    ],
)
@pytest.mark.parametrize("chunk", [1, 2, 3, 1 << 20])
def test_what_is_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, options: dict[str, Any], plain: bool, chunk: int
) -> None:
    monkeypatch.setattr("headwater.offline.files.csv_files._CHUNK", chunk)
    (tmp_path / "p.csv").write_bytes(content)
    assert is_plain(str(tmp_path / "p.csv"), CSVFormat(**options), 2, "") == plain


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_query_reads_its_files_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    (tmp_path / "p.csv").write_text("user,x,kind\n1,2,a\n1,3,b\n")
    (tmp_path / "p.json").write_text('{"user": 1, "x": 2, "kind": "a"}\n{"user": 1, "x": 3, "kind": "b"}\n')
    schema = {"user": hw.Int64, "x": hw.Int64}
    tables = {"t": (hw.CSVSource if kind == "csv" else hw.JSONSource)(f"p.{kind}", schema=schema)}
    queries = {
        "plain": "SELECT user, sum(x) AS a, max(x) AS b FROM t GROUP BY user",
        "pivoted": "SELECT user, a, b FROM (PIVOT t ON kind USING sum(x) GROUP BY user)",
    }
    views = [
        hw.FeatureView(
            name,
            entity=hw.Entity("user", join_keys={"user": hw.Int64}),
            source=hw.SQLSource(query, tables=tables),
            features=[hw.Feature("a", hw.Int64), hw.Feature("b", hw.Int64)],
        )
        for name, query in queries.items()
    ]
    loaded: list[int] = []
    module = f"headwater.offline.engines.duckdb.{kind}_sources"
    load = __import__(module, fromlist=["_load"])._load

    def counted(*args: Any, **options: Any) -> Any:
        chosen = args[3]
        loaded.append(len(chosen))
        return load(*args, **options)

    monkeypatch.setattr(f"{module}._load", counted)
    with hw.FeatureStore.in_memory(views, path=tmp_path, clock=lambda: NOON) as store:
        spine = [{"user": 1, "timestamp": NOON}]
        for name, right, loads in (("plain", (5, 3), 1), ("pivoted", (2, 3), 2)):
            loaded.clear()
            (row,) = store.get_historical_features(spine, [f"{name}:*"]).to_pylist()
            assert (row["a"], row["b"]) == right
            assert sum(loaded) == loads


BYTES = [("0xDEad", b"\xde\xad"), (r"\xdead", b"\xde\xad"), (r"\\xdead", b"\xde\xad"), ("0x", b""), ("dead", b"dead")]


def test_bytes_are_hex_digits_or_text(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("key,b\n" + "".join(f"{text},{text}\n" for text, _ in BYTES[1:]))
    device = hw.Entity("device", join_keys={"key": hw.Bytes})
    view = hw.FeatureView("v", entity=device, source=hw.CSVSource("d.csv"), features=[hw.Feature("b", hw.Bytes)])
    keys = [value for _, value in BYTES[1:]]
    with hw.FeatureStore.in_memory([device, view], path=tmp_path, clock=lambda: NOON) as store:
        found = store.get_historical_features([{"key": key} for key in keys], ["v:b"], at=NOON).to_arrow()
        store.materialize()
        assert found["b"].to_pylist() == keys == store.get_online_features(["v:b"], keys).to_dict()["b"]


@pytest.mark.parametrize("text", ["0xdea", "0xfg", r"\xf", r"\xerxes"])
def test_half_bytes_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SourceError, match=r"line 3.*is not bytes \(after 0x or \\x come hex digits, two for each byte"):
        paid(tmp_path, f"order,t,paid\nA1,2026-06-01,x\nA1,2026-06-01,{text}\n", dtype=hw.Bytes)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("options", [{}, {"comment": "#"}, {"escape": "\\"}])
def test_quotes_tell_a_text_from_null_unless_the_nulls_are_stated(
    tmp_path: Path, end: str, options: dict[str, Any]
) -> None:
    rows = ("order,t,paid", 'A,"2026-06-01",""', "B,2026-06-01,", 'C,2026-06-01,"NA"', "D,2026-06-01,NULL", '"","",""')
    content, orders = end.join(rows) + end, tuple("ABCD")
    assert paid(tmp_path, content, *orders, dtype=hw.String, **options) == ["", None, "NA", None]
    assert paid(tmp_path, content, *orders, dtype=hw.Bytes, **options) == [b"", None, b"NA", None]
    assert paid(tmp_path, content, *orders, dtype=hw.Float64, **options) == [None] * 4
    assert paid(tmp_path, content, *orders, dtype=hw.Array(hw.Int64), **options) == [None] * 4
    stated = {**options, "nulls": ("", "NA")}
    assert paid(tmp_path, content, *orders, dtype=hw.String, **stated) == [None, None, None, "NULL"]


@settings(max_examples=rounds(80), deadline=None)
@given(st.lists(st.sampled_from(["", "NA", "a", '"', ",", "\n", '""', "NULL"]), min_size=1, max_size=4), st.data())
def test_the_reader_of_lines_knows_which_fields_are_in_quotes(fields: list[str], data: st.DataObject) -> None:
    plain = {"", "NA", "a", "NULL"}
    quoted = [text not in plain or data.draw(st.booleans()) for text in fields]
    doubled = ['"' + text.replace('"', '""') + '"' if q else text for text, q in zip(fields, quoted, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "x.csv"
        file.write_text(",".join(["h"] * len(fields)) + "\n" + ",".join(doubled) + "\n", newline="")
        (_, _), (_, record) = read_records(str(file), CSVFormat(), "x")
    assert record == fields
    marks = [isinstance(text, Quoted) for text in record]
    assert marks == [q and text in ("", "NA", "NULL") for text, q in zip(fields, quoted, strict=True)]


@pytest.mark.parametrize(
    ("dtype", "most"), [(hw.Float64, 2**53), (hw.Float32, 2**24), (hw.Array(hw.Float32), 2**24)]
)  # fmt: skip
def test_integers_that_a_float_dtype_lacks_are_refused_whatever_the_file(tmp_path: Path, dtype: Any, most: int) -> None:
    reason = rf"an integer beyond 2\*\*{most.bit_length() - 1}"
    for number, right in ((most, float(most)), (-most, -float(most)), (most + 1, None), (-most - 1, None)):
        number_text = f"[{number}]" if dtype.name == "array" else str(number)
        (tmp_path / "n.csv").write_text(f"order,t,paid\nA1,2026-06-01,{number_text}\n")
        (tmp_path / "n.jsonl").write_text(f'{{"order": "A1", "t": "2026-06-01", "paid": {number_text}}}\n')
        for source in (hw.CSVSource("n.csv", event_time="t"), hw.JSONSource("n.jsonl", event_time="t")):
            view = hw.FeatureView("v", entity=ORDER, source=source, features=[hw.Feature("paid", dtype)])
            with hw.FeatureStore.in_memory([ORDER, view], path=tmp_path, clock=lambda: NOON) as store:
                result = store.get_historical_features([{"order": "A1", "timestamp": NOON}], ["v:paid"])
                if right is None:
                    with pytest.raises(SourceError, match=reason):
                        result.to_arrow()
                else:
                    (found,) = result.to_arrow()["paid"].to_pylist()
                    assert found in (right, [right])
