"""Sources read by file: whole, from the watermark on, or not at all; files that change while they are read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import headwater as hw
from headwater.clock import to_micros
from headwater.definitions.source import Source
from headwater.errors import HeadwaterError, SourceError
from headwater.offline.base import ChangeCounts, ChangesRequest, ViewInput
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.offline.engines.duckdb.workspace import DuckDBWorkspace
from headwater.planning.files import FileIdentity
from headwater.planning.resolve import whole_view
from headwater.planning.watermark import Watermark
from tests.servers.s3 import S3Server
from tests.unit.offline.asking import at, registered, table, view

SINCE = to_micros(at(10))
END = to_micros(at(60))
TIMED = {"event_time": "happened", "created_time": "learnt"}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(tmp_path)
    yield engine
    engine.close()


def rows(**keys: tuple[float, float, float]) -> pa.Table:
    """A row a key: the minutes when it happened and was learnt, and a number."""
    return pa.table(
        {
            "airport": list(keys),
            "happened": pa.array([at(e) for e, _, _ in keys.values()], pa.timestamp("us", "UTC")),
            "learnt": pa.array([at(c) for _, c, _ in keys.values()], pa.timestamp("us", "UTC")),
            "temp": pa.array([x for *_, x in keys.values()], pa.float64()),
        }
    )


def asked(source: Source, *features: hw.Feature, **options: Any) -> ChangesRequest:
    snapshot = registered([view(source, *features)])
    whole = whole_view(snapshot.view("weather"), snapshot.view("weather").version())
    settings: dict[str, Any] = {"end": END, "source_after": END, "since": Watermark(SINCE, 0), "log_until": 0}
    return ChangesRequest(ViewInput(whole, source, None), **settings | options)


def changed(engine: DuckDBEngine, request: ChangesRequest, counts: ChangeCounts | None = None) -> dict[str, Any]:
    counts = ChangeCounts() if counts is None else counts
    return {row["airport"]: row["temp"] for batch in engine.changes(request, counts) for row in batch.to_pylist()}


# -- the same files in every kind of source


Kind = Callable[[Path, S3Server | None, dict[str, pa.Table]], Source]


def write_parquet(folder: Path, files: dict[str, pa.Table]) -> None:
    (folder / "data").mkdir(exist_ok=True)
    for name, content in files.items():
        pq.write_table(content, folder / f"data/{name}.parquet", row_group_size=2)


def write_csv(folder: Path, files: dict[str, pa.Table]) -> None:
    (folder / "data").mkdir(exist_ok=True)
    for name, content in files.items():
        pa.csv.write_csv(content, folder / f"data/{name}.csv")


def parquet_folder(folder: Path, server: S3Server | None, files: dict[str, pa.Table]) -> Source:
    write_parquet(folder, files)
    return hw.ParquetSource("data", **TIMED)


def parquet_glob(folder: Path, server: S3Server | None, files: dict[str, pa.Table]) -> Source:
    write_parquet(folder, files)
    return hw.ParquetSource("dat?/*.parquet", **TIMED)


def csv_folder(folder: Path, server: S3Server | None, files: dict[str, pa.Table]) -> Source:
    write_csv(folder, files)
    # of the columns that a query reads
    schema = {"happened": hw.Timestamp, "learnt": hw.Timestamp, "temp": hw.Float64}
    return hw.CSVSource("data", schema=schema, **TIMED)


def bucket(folder: Path, server: S3Server | None, files: dict[str, pa.Table]) -> Source:
    assert server is not None
    write_parquet(folder, files)
    name = server.make_bucket()
    for file in files:
        server.client.upload_file(str(folder / f"data/{file}.parquet"), name, f"data/{file}.parquet")
    return hw.ParquetSource(server.url(f"{name}/data"), **TIMED)


FILES = {
    "a": rows(A=(0, 0, 1.0), B=(1, 11, 2.0), C=(12, 1, 3.0), D=(5, 5, 4.0)),
    "b": rows(A=(0, 0, 5.0), E=(2, 2, 6.0), F=(15, 15, 7.0)),
    "c": rows(G=(70, 0, 8.0), D=(4, 4, 9.0), H=(3, 3, 10.0)),
}
"""Known after the watermark: B by its created time, C by its event time, F; not before the end: G."""
LATE = {"B": 2.0, "C": 3.0, "F": 7.0}


@pytest.mark.parametrize("kind", [parquet_folder, parquet_glob, csv_folder, bucket])
def test_new_files_are_read_whole_and_others_from_the_watermark_on(
    engine: DuckDBEngine, tmp_path: Path, s3_server: S3Server, kind: Kind
) -> None:
    source = kind(tmp_path, s3_server, FILES)
    listed = engine.list_files(source)
    assert listed is not None and [Path(file.path).stem for file in listed] == ["a", "b", "c"]
    a, b, c = (file.path for file in listed)

    def found(whole: set[str], only: set[str] | None = None) -> dict[str, Any]:
        files = None if only is None else frozenset(only)
        return changed(engine, asked(source, whole_files=frozenset(whole), only_files=files))

    assert found(set()) == LATE
    assert found({a}) == LATE | {"A": 1.0, "D": 4.0}
    assert found({b}) == LATE | {"A": 5.0, "E": 6.0}
    assert found({c}) == LATE | {"D": 9.0, "H": 10.0}
    everything = LATE | {"A": 5.0, "D": 4.0, "E": 6.0, "H": 10.0}
    assert found({a, b, c}) == found({a, b, c, "gone"}) == everything
    assert found({b}, {b}) == {"A": 5.0, "E": 6.0, "F": 7.0}
    assert found(set(), {b, c}) == {"F": 7.0}
    assert found({b, c}, {a, c}) == {"B": 2.0, "C": 3.0, "D": 9.0, "H": 10.0}
    assert found({c}, set()) == found({c}, {"gone"}) == {}
    # without a watermark every file is read whole
    assert changed(engine, asked(source, whole_files=frozenset(), since=Watermark())) == everything


@pytest.mark.parametrize("kind", [parquet_folder, csv_folder, bucket])
def test_rows_of_files_that_were_read_whole_are_counted(
    engine: DuckDBEngine, tmp_path: Path, s3_server: S3Server, kind: Kind
) -> None:
    source = kind(tmp_path, s3_server, FILES | {"d": rows(A=(0, 0, 1.0)).slice(0, 0)})
    paths = [file.path for file in engine.list_files(source) or ()]
    counts = ChangeCounts()
    changed(engine, asked(source, whole_files=frozenset(paths[1:])), counts)
    assert counts.file_rows == dict(zip(paths[1:], (3, 3, 0), strict=True))


@pytest.mark.parametrize("kind", [parquet_folder, csv_folder, bucket])
def test_a_query_is_read_whole_where_any_file_is_new(
    engine: DuckDBEngine, tmp_path: Path, s3_server: S3Server, kind: Kind
) -> None:
    inner = kind(tmp_path, s3_server, FILES)
    source = hw.SQLSource("SELECT * FROM t", tables={"t": replace(inner)}, **TIMED)
    listed = engine.list_files(source)
    assert listed == engine.list_files(inner) and listed is not None
    assert changed(engine, asked(source, whole_files=frozenset())) == LATE
    everything = LATE | {"A": 5.0, "D": 4.0, "E": 6.0, "H": 10.0}
    for given in (
        {"whole_files": frozenset({listed[1].path})},
        {"whole_files": frozenset(), "only_files": frozenset()},
    ):
        assert changed(engine, asked(source, **given)) == everything


def test_identities_are_those_of_the_disk_and_of_the_store(
    engine: DuckDBEngine, tmp_path: Path, s3_server: S3Server
) -> None:
    here = engine.list_files(parquet_folder(tmp_path, None, FILES)) or ()
    stat = (tmp_path / "data/a.parquet").stat()
    assert (here[0].path, here[0].size) == ("data/a.parquet", stat.st_size)
    assert (here[0].modified_ns, here[0].inode, here[0].etag) == (stat.st_mtime_ns, stat.st_ino, None)
    source = bucket(tmp_path, s3_server, FILES)
    there = engine.list_files(source) or ()
    name = source.location.split("/")[2]
    head = s3_server.client.head_object(Bucket=name, Key="data/a.parquet")
    assert there[0] == FileIdentity(
        f"s3://{name}/data/a.parquet",
        stat.st_size,
        int(head["LastModified"].timestamp()) * 10**9,
        etag=head["ETag"],
    )
    # one of the same size within the same second
    s3_server.client.put_object(Bucket=name, Key="data/a.parquet", Body=b"x" * stat.st_size)
    assert (engine.list_files(source) or ())[0].etag != there[0].etag


@pytest.mark.parametrize(
    ("query", "tables", "by_file"),
    [
        ("SELECT * FROM t", ("t",), True),
        ("SELECT * FROM T AS x JOIN u USING (airport)", ("t", "u"), True),
        ("WITH c AS (SELECT * FROM t) SELECT c.* FROM c, range(3)", ("t",), True),
        ("SELECT * FROM t, unnest([1, 2])", ("t",), True),
        ("SELECT * FROM t JOIN 'data/b.parquet' USING (airport)", ("t",), False),
        ('SELECT * FROM t JOIN "data/b.parquet" USING (airport)', ("t",), False),
        ("SELECT * FROM t JOIN read_parquet('data/b.parquet') USING (airport)", ("t",), False),
        ("SELECT * FROM t JOIN memory USING (airport)", ("t", "memory"), False),
        ("SELECT * FROM 'data/a.parquet'", (), False),
    ],
)
def test_a_query_is_one_of_files_where_it_reads_nothing_else(
    engine: DuckDBEngine, tmp_path: Path, query: str, tables: tuple[str, ...], by_file: bool
) -> None:
    write_parquet(tmp_path, FILES)
    known: dict[str, Source] = {
        "t": hw.ParquetSource("data/a.parquet"),
        "u": hw.SQLSource("SELECT * FROM v", tables={"v": hw.ParquetSource("data/c.parquet")}),
        "memory": table(("JFK", at(0), 1.0)),
    }
    source = hw.SQLSource(query, tables={name: known[name] for name in tables}, event_time="happened")
    listed = engine.list_files(source)
    if not by_file:
        assert listed is None
    else:
        assert listed is not None
        assert {file.path for file in listed} <= {"data/a.parquet", "data/c.parquet"} and listed


def test_other_sources_are_not_of_files(engine: DuckDBEngine) -> None:
    assert engine.list_files(table(("JFK", at(0), 1.0))) is None
    assert engine.list_files(hw.PushSource(event_time="happened")) is None
    with pytest.raises(SourceError, match="no file at"):
        engine.list_files(hw.ParquetSource("nowhere", event_time="happened"))


# -- what is not read


def damage(path: Path, groups: list[int] | None = None) -> None:
    """Overwrite the rows of a Parquet file, or of some of its row groups, not the footer: who reads them fails."""
    footer = pq.read_metadata(path)
    data = bytearray(path.read_bytes())
    for number in range(footer.num_row_groups) if groups is None else groups:
        group = footer.row_group(number)
        for part in (group.column(i) for i in range(group.num_columns)):
            start = min(filter(None, (part.dictionary_page_offset, part.data_page_offset)))
            data[start : start + part.total_compressed_size] = b"\xff" * part.total_compressed_size
    path.write_bytes(data)


def test_row_groups_of_unchanged_files_known_before_the_watermark_are_not_read(
    engine: DuckDBEngine, tmp_path: Path
) -> None:
    source = parquet_folder(tmp_path, None, {"a": FILES["a"], "b": rows(E=(1, 1, 1.0), F=(2, 2, 2.0), I=(30, 30, 3.0))})
    damage(tmp_path / "data/b.parquet", [0])
    with pytest.raises(HeadwaterError):
        changed(engine, asked(source, whole_files=frozenset({"data/b.parquet"})))
    counts = ChangeCounts()
    request = asked(source, whole_files=frozenset({"data/a.parquet"}))
    assert changed(engine, request, counts) == {"A": 1.0, "B": 2.0, "C": 3.0, "D": 4.0, "I": 3.0}
    assert counts.rows == 5


def test_files_that_are_left_out_are_not_opened(engine: DuckDBEngine, tmp_path: Path) -> None:
    source = parquet_folder(tmp_path, None, FILES)
    (tmp_path / "data/a.parquet").write_bytes(b"half of a fi")
    with pytest.raises(SourceError):
        changed(engine, asked(source, whole_files=frozenset()))
    only = frozenset({"data/b.parquet", "data/c.parquet"})
    assert changed(engine, asked(source, whole_files=frozenset(), only_files=only)) == {"F": 7.0}


def test_row_groups_in_a_bucket_known_before_the_watermark_are_not_read(
    engine: DuckDBEngine, tmp_path: Path, s3_server: S3Server
) -> None:
    source = bucket(tmp_path, s3_server, FILES)
    damage(tmp_path / "data/b.parquet", [0])
    name = source.location.split("/")[2]
    s3_server.client.upload_file(str(tmp_path / "data/b.parquet"), name, "data/b.parquet")
    assert changed(engine, asked(source, whole_files=frozenset())) == LATE
    with pytest.raises(HeadwaterError):
        changed(engine, asked(source, whole_files=frozenset({f"s3://{name}/data/b.parquet"})))


# -- columns that differ from file to file


def test_columns_have_the_types_of_all_files_together(engine: DuckDBEngine, tmp_path: Path) -> None:
    """Whichever of them are read whole: 32 and 64 bits, a column that some lack, columns in another order."""
    small = FILES["a"].append_column("n", pa.array([1, 2, 3, 4], pa.int32()))
    large = (
        FILES["b"]
        .append_column("n", pa.array([2**40, 6, 7], pa.int64()))
        .select(["n", "temp", "learnt", "happened", "airport"])
    )
    source = parquet_folder(tmp_path, None, {"a": small, "b": large, "c": FILES["c"]})
    features = [hw.Feature("n", hw.Int64), hw.Feature("temp", hw.Float64)]
    late = {"B": 2, "C": 3, "F": 7}
    whole = {"a": {"A": 1, "D": 4}, "b": {"A": 2**40, "E": 6}, "c": {"D": None, "H": None}}
    for names in ("a", "ba", "bc", "cab", "c"):
        request = asked(source, *features, whole_files=frozenset(f"data/{name}.parquet" for name in names))
        batches = engine.changes(request, ChangeCounts())
        found = {row["airport"]: row["n"] for batch in batches for row in batch.to_pylist()}
        # of A's rows, which tie, b's is the greater; of D's that of a is the newer
        expected = dict(late)
        for name in sorted(names, key="cab".index):
            expected |= whole[name]
        assert found == expected


def test_a_column_that_files_lack_that_are_read_alone_is_null(engine: DuckDBEngine, tmp_path: Path) -> None:
    source = parquet_folder(tmp_path, None, {"a": FILES["a"], "b": FILES["b"].drop_columns(["temp"])})
    b = frozenset({"data/b.parquet"})
    counts = ChangeCounts()
    assert changed(engine, asked(source, whole_files=b, only_files=b), counts) == {"A": None, "E": None, "F": None}
    assert not counts.lacking
    with pytest.raises(SourceError, match="no column 'learnt'"):
        write_parquet(tmp_path, {"b": FILES["b"].drop_columns(["learnt"])})
        changed(engine, asked(source, whole_files=b, only_files=b))
    write_parquet(tmp_path, {name: FILES[name].drop_columns(["temp"]) for name in "ab"})
    with pytest.raises(SourceError, match="has no column 'temp'"):
        changed(engine, asked(source, whole_files=b))


def test_partitions_are_the_same_values_whichever_files_are_read(engine: DuckDBEngine, tmp_path: Path) -> None:
    for shop, name in (("007", "a"), ("x", "b")):
        folder = tmp_path / f"data/shop={shop}/n={len(shop)}"
        folder.mkdir(parents=True)
        pq.write_table(FILES[name].drop_columns(["temp"]), folder / f"{name}.parquet")
    source = hw.ParquetSource("data", **TIMED)
    features = [hw.Feature("temp", hw.String, column="shop"), hw.Feature("n", hw.Int64)]
    a, b = (file.path for file in engine.list_files(source) or ())
    assert a == "data/shop=007/n=3/a.parquet"
    shops = {"B": "007", "C": "007", "F": "x"}
    for whole, more in (({a}, {"A": "007", "D": "007"}), ({b}, {"A": "x", "E": "x"}), (set(), {})):
        assert changed(engine, asked(source, *features, whole_files=frozenset(whole))) == shops | more
    assert changed(engine, asked(source, *features, whole_files=frozenset({a}), only_files=frozenset({a}))) == {
        **dict.fromkeys("ABCD", "007")
    }


@pytest.mark.one_in(2)
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC"])
@pytest.mark.parametrize("road", ["disk", "bucket"])
def test_times_of_every_unit_are_compared_in_microseconds(
    engine: DuckDBEngine, tmp_path: Path, s3_server: S3Server, unit: str, zone: str | None, road: str
) -> None:
    """The watermark itself is known; a nanosecond later rounds up to the next microsecond."""
    scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    last = SINCE * scale // 10**6
    stamps = pa.array([last - 1, last, last + 1], pa.timestamp(unit, zone))
    (tmp_path / "data").mkdir()
    rows = pa.table({"airport": ["A", "B", "C"], "happened": stamps, "temp": [1.0, 2.0, 3.0]})
    pq.write_table(rows, tmp_path / "data/a.parquet", row_group_size=1)
    source = hw.ParquetSource("data", event_time="happened")
    if road == "bucket":
        name = s3_server.make_bucket()
        s3_server.client.upload_file(str(tmp_path / "data/a.parquet"), name, "data/a.parquet")
        source = hw.ParquetSource(s3_server.url(f"{name}/data"), event_time="happened")
    assert changed(engine, asked(source, whole_files=frozenset())) == {"C": 3.0}


def test_a_delay_counts_for_unchanged_files(engine: DuckDBEngine, tmp_path: Path) -> None:
    write_parquet(tmp_path, FILES)
    source = hw.ParquetSource("data", event_time="happened", delay="8m")
    found = changed(engine, asked(source, whole_files=frozenset()))
    assert found == {"C": 3.0, "D": 4.0, "F": 7.0, "H": 10.0}
    table = rows(A=(2, 0, 1.0), B=(3, 0, 2.0))
    write_parquet(tmp_path, {"a": table, "b": table.slice(0, 0), "c": table.slice(0, 0)})
    assert changed(engine, asked(source, whole_files=frozenset())) == {"B": 2.0}


def test_dates_are_midnights(engine: DuckDBEngine, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    days = pa.array([at(0).date().replace(day=d) for d in (9, 10, 11)], pa.date32())
    pq.write_table(
        pa.table({"airport": ["A", "B", "C"], "happened": days, "temp": [1.0, 2.0, 3.0]}), tmp_path / "data/a.parquet"
    )
    source = hw.ParquetSource("data", event_time="happened")
    end, midnight = to_micros(datetime(2024, 3, 12)), to_micros(datetime(2024, 3, 10))
    for since, keys in ((midnight - 1, {"B", "C"}), (midnight, {"C"})):
        request = asked(source, whole_files=frozenset(), since=Watermark(since), end=end)
        assert changed(engine, request).keys() == keys


def test_rows_of_thousands_of_files_keep_numbers_of_their_own(engine: DuckDBEngine, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(600):
        mine = rows(**{f"k{number}": (0, 0, number), f"l{number}": (20, 20, -number)})
        pq.write_table(mine, folder / f"{number:04}.parquet")
    source = hw.ParquetSource("data", **TIMED)
    files = [file.path for file in engine.list_files(source) or ()]
    found = changed(engine, asked(source, whole_files=frozenset(files[::3])))
    assert found == {f"k{n}": float(n) for n in range(0, 600, 3)} | {f"l{n}": float(-n) for n in range(600)}


# -- files that change while they are read


@pytest.mark.parametrize("whole", [{"data/a.parquet"}, set()])
def test_a_file_replaced_between_two_statements_gives_no_row_that_never_was(
    engine: DuckDBEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: set[str]
) -> None:
    """A row is chosen by its number: by then another one may have that number."""
    before = rows(A=(20, 20, 1.0), B=(21, 21, 2.0), C=(22, 22, 3.0), D=(30, 30, 4.0))
    after = rows(B=(11, 11, 5.0), A=(12, 12, 6.0), D=(30, 30, 7.0), E=(22, 22, 8.0))
    source = parquet_folder(tmp_path, None, {"a": before})
    create = DuckDBWorkspace.create

    def replaced(space: DuckDBWorkspace, name: str, query: Any) -> None:
        create(space, name, query)
        if name == "newest":
            pq.write_table(after, tmp_path / "other")
            shutil.move(tmp_path / "other", tmp_path / "data/a.parquet")

    monkeypatch.setattr(DuckDBWorkspace, "create", replaced)
    known = {tuple(row.values()) for row in (*before.to_pylist(), *after.to_pylist())}
    for batch in engine.changes(asked(source, whole_files=frozenset(whole)), ChangeCounts()):
        for row in batch.to_pylist():
            times = [datetime.fromtimestamp(row[name] / 1e6, at(0).tzinfo) for name in ("__event", "__created")]
            assert (row["airport"], *times, row["temp"]) in known


def test_a_file_that_is_gone_when_it_is_opened_is_named(
    engine: DuckDBEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = parquet_folder(tmp_path, None, FILES)
    create = DuckDBWorkspace.create

    def removed(space: DuckDBWorkspace, name: str, query: Any) -> None:
        (tmp_path / "data/b.parquet").unlink(missing_ok=True)
        create(space, name, query)

    monkeypatch.setattr(DuckDBWorkspace, "create", removed)
    with pytest.raises(SourceError, match=r"b\.parquet"):
        changed(engine, asked(source, whole_files=frozenset()))
    monkeypatch.undo()
    assert changed(engine, asked(source, whole_files=frozenset())) == {"B": 2.0, "C": 3.0}
