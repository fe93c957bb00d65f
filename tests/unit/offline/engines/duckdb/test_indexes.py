"""Indexes that are kept of files: whatever becomes of the files or of the index, the answer is that of the files."""

from __future__ import annotations

import os
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.observer import silent
from headwater.offline.engines.duckdb.engine import DuckDBEngine
from headwater.offline.index import sorting
from headwater.offline.index.folder import IndexRules, kept_in, size_of
from headwater.offline.join import indexed
from headwater.testing import rounds
from tests.unit.offline.asking import ask

START = 1_770_000_000_000_000
MICROS = pa.timestamp("us", tz="UTC")
USER = hw.Entity("user", join_keys={"user": hw.Int64})
RULES = IndexRules(Path(), 10**8, least=0, share=10**9, reach=0.0, settled_ns=0)


def view(ttl: str | None = None, **given: Any) -> hw.FeatureView:
    where = {"event_time": "at", "created_time": "made"} | given
    features = [hw.Feature("x", hw.Float64), hw.Feature("y", hw.Int64)]
    source = hw.ParquetSource("data", **where)
    return hw.FeatureView("v", entity=USER, version="1.0.0", source=source, features=features, ttl=ttl)


def rows(seed: int, count: int = 40) -> pa.Table:
    draw = np.random.default_rng(seed)
    at = START + draw.integers(0, 30, count) * 1_000_000
    made = at + draw.integers(0, 6, count) * 1_000_000
    values = {"x": draw.integers(0, 3, count) * 1.0, "y": draw.integers(0, 2, count)}
    times = {"at": pa.array(at, MICROS), "made": pa.array(made, MICROS)}
    return pa.table({"user": draw.integers(0, 5, count), **times, **values})


def spine(seed: int, count: int = 30) -> pa.Table:
    draw = np.random.default_rng(seed)
    at = pa.array(START + draw.integers(-2, 40, count) * 1_000_000, MICROS)
    return pa.table({"user": draw.integers(0, 6, count), "timestamp": at})


def answer(folder: Path, of: hw.FeatureView, asked: pa.Table, rules: IndexRules | None, **options: Any) -> Any:
    """All features and counts as the files are, through an engine of its own."""
    engine = DuckDBEngine(folder, indexes=rules)
    try:
        result = ask(engine, asked, [of], include=("status", "event_time"), **options)
        return result.to_arrow().to_pylist(), dict(result.metadata.views["v"])
    finally:
        engine.close()


def answers(folder: Path, of: hw.FeatureView, asked: pa.Table, rules: IndexRules, **options: Any) -> tuple[Any, Any]:
    """With indexes, and without any."""
    return answer(folder, of, asked, rules, **options), answer(folder, of, asked, None, **options)


def indexes(folder: Path) -> Path:
    """Where they are kept."""
    return folder / ".headwater" / "indexes"


def rules_in(folder: Path, **other: Any) -> IndexRules:
    return replace(RULES, folder=indexes(folder), **other)


def written(folder: Path, name: str, table: pa.Table) -> None:
    (folder / "data").mkdir(exist_ok=True)
    new = folder / "new"
    pq.write_table(table, new)
    new.replace(folder / "data" / name)


def replaced(folder: Path, seed: int) -> None:
    """Other rows under the same name, of the same size and time."""
    file = folder / "data" / "0.parquet"
    there = file.stat()
    values = pq.read_table(file)
    written(folder, "0.parquet", values.set_column(3, "x", pa.array(np.asarray(values["x"]) + seed % 7 + 1)))
    os.utime(file, ns=(there.st_atime_ns, there.st_mtime_ns))


def overwritten(folder: Path, seed: int) -> None:
    """The same file written over in place, and given its old times."""
    file = folder / "data" / "0.parquet"
    there = file.stat()
    pq.write_table(rows(seed), folder / "other")
    file.write_bytes((folder / "other").read_bytes())
    os.utime(file, ns=(there.st_atime_ns, there.st_mtime_ns))


def added(folder: Path, seed: int) -> None:
    written(folder, f"{seed}.parquet", rows(seed))


def removed(folder: Path, seed: int) -> None:
    files = sorted((folder / "data").iterdir())
    if len(files) > 1:
        files[seed % (len(files) - 1) + 1].unlink()


def damaged(folder: Path, seed: int) -> None:
    for _, index, size in kept_in(indexes(folder)):
        content = bytearray(index.read_bytes())
        content[seed % size] ^= 0x5A
        index.write_bytes(content)


def cut(folder: Path, seed: int) -> None:
    for _, index, size in kept_in(indexes(folder)):
        index.write_bytes(index.read_bytes()[: seed % size])


def untouched(folder: Path, seed: int) -> None:
    """Nothing."""


CHANGES = (replaced, overwritten, added, removed, damaged, cut, untouched)


@settings(max_examples=rounds(8), deadline=None)
@given(
    changes=st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(1, 10_000)), max_size=5),
    ttl=st.sampled_from([None, "5s"]),
    known=st.booleans(),
)
def test_files_and_indexes_that_change_between_calls(changes: Any, ttl: str | None, known: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written(folder, "0.parquet", rows(0))
        for number, (change, seed) in enumerate([(untouched, 1), *changes, (untouched, 1)]):
            change(folder, seed)
            one, other = answers(folder, view(ttl), spine(number), rules_in(folder), as_known=known)
            assert one == other
        assert len(kept_in(indexes(folder))) == 1


@pytest.mark.parametrize(
    "of",
    [view(ttl="5s"), view(created_time=None), view(created_time=None, delay="3s"), view(timezone="Europe/Berlin")],
    ids=["ttl", "no created time", "delay", "naive times"],
)
def test_the_second_call_reads_no_narrow_columns_again(tmp_path, of) -> None:
    table = rows(1)
    if of.source.timezone:
        naive = [table[name].cast(pa.timestamp("us")) for name in ("at", "made")]
        table = table.set_column(1, "at", naive[0]).set_column(2, "made", naive[1])
    written(tmp_path, "0.parquet", table)
    made = answers(tmp_path, of, spine(1), rules_in(tmp_path))
    ((_, index, _),) = kept_in(indexes(tmp_path))
    there = index.stat()
    found = answers(tmp_path, of, spine(2), rules_in(tmp_path))
    assert [one == other for one, other in (made, found)] == [True, True]
    assert [path.stat().st_ino for _, path, _ in kept_in(indexes(tmp_path))] == [there.st_ino]
    assert index.stat().st_mtime_ns > there.st_mtime_ns
    assert index.stat().st_mode & 0o077 == 0


def test_rows_that_are_sorted_in_parts_and_ties_of_many(tmp_path, monkeypatch) -> None:
    for name, value in (("_PART", 7), ("HELD", 0), ("_SORTED", 60)):
        monkeypatch.setattr(sorting, name, value)
    monkeypatch.setattr(indexed, "_BUILT", 7)
    table = rows(1, 100)
    written(tmp_path, "0.parquet", pa.concat_tables([table, table.slice(10, 30), table.slice(20, 5), rows(2, 100)]))
    for number, part in enumerate(["v:*", "v:x"] * 2):
        engine = [DuckDBEngine(tmp_path, indexes=rules) for rules in (rules_in(tmp_path), None)]
        one, other = (ask(e, spine(number, 200), [view()], [part], include=("event_time",)) for e in engine)
        assert one.to_arrow().equals(other.to_arrow())
        assert one.metadata.views == other.metadata.views
        assert one.metadata.views["v"].ties
        for e in engine:
            e.close()
    assert len(kept_in(indexes(tmp_path))) == 1


def test_another_release_and_another_reading_have_indexes_of_their_own(tmp_path, monkeypatch) -> None:
    written(tmp_path, "0.parquet", rows(1))
    for number, of in enumerate([view(), view(ttl="5s"), view(delay="2s", created_time=None), view(event_time="made")]):
        one, other = answers(tmp_path, of, spine(1), rules_in(tmp_path))
        assert one == other, number
    before = len(kept_in(indexes(tmp_path)))
    assert before == 3  # a ttl makes no other rows
    monkeypatch.setattr(hw, "__version__", "99.0")
    one, other = answers(tmp_path, view(), spine(1), rules_in(tmp_path))
    assert one == other
    assert len(kept_in(indexes(tmp_path))) == before + 1


def test_a_file_that_has_just_been_written_has_no_index(tmp_path) -> None:
    written(tmp_path, "0.parquet", rows(1))
    rules = rules_in(tmp_path, settled_ns=RULES.settled_ns or 3_600_000_000_000)
    one, other = answers(tmp_path, view(), spine(1), rules)
    assert one == other
    assert kept_in(indexes(tmp_path)) == []


def test_what_is_unused_longest_goes_for_room(tmp_path) -> None:
    written(tmp_path, "0.parquet", rows(1, 400))
    answer(tmp_path, view(), spine(1), rules_in(tmp_path))
    ((_, first, _),) = kept_in(indexes(tmp_path))
    answer(tmp_path, view(created_time=None), spine(1), rules_in(tmp_path))
    os.utime(first, (0, 0))
    room = rules_in(tmp_path, size=sum(size for *_, size in kept_in(indexes(tmp_path))) + 100)
    answer(tmp_path, view(created_time=None, delay="1s"), spine(1), room)
    left = kept_in(indexes(tmp_path))
    assert left and first not in [path for _, path, _ in left]
    assert sum(size for *_, size in left) <= room.size
    answer(tmp_path, view(), spine(1), rules_in(tmp_path, size=100))
    assert kept_in(indexes(tmp_path)) == left


def test_several_make_one_at_once(tmp_path) -> None:
    written(tmp_path, "0.parquet", rows(1, 2_000))
    found: list[Any] = []

    def one() -> None:
        found.append(answers(tmp_path, view(), spine(3), rules_in(tmp_path)))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one == other for one, other in found] == [True] * 4
    assert len(list((indexes(tmp_path)).iterdir())) == 1


def test_a_folder_that_takes_no_files_costs_nothing_but_the_index(tmp_path) -> None:
    written(tmp_path, "0.parquet", rows(1))
    indexes(tmp_path).parent.mkdir()
    indexes(tmp_path).write_text("a file")
    one, other = answers(tmp_path, view(), spine(1), rules_in(tmp_path))
    assert one == other


@pytest.mark.parametrize("with_indexes", [True, False])
def test_a_key_that_does_not_fit_is_the_same_error(tmp_path, with_indexes) -> None:
    table = rows(1)
    keys = pa.array([*np.asarray(table["user"]).astype(float).tolist()[1:], 1.5])
    written(tmp_path, "0.parquet", table.set_column(0, "user", keys))
    with pytest.raises(hw.SourceError, match=r"0\.parquet, row 39 does not fit int64"):
        answer(tmp_path, view(), spine(1), rules_in(tmp_path) if with_indexes else None)


@pytest.mark.parametrize("text, size", [("0", 0), ("2GB", 2 * 10**9), ("1.5 MiB", 3 << 19), ("10kb", 10_000)])
def test_sizes(text, size) -> None:
    assert size_of(text) == size


def test_a_size_that_is_none_is_refused(tmp_path) -> None:
    with pytest.raises(hw.ConfigError, match=r"index_size = 'much': must be an amount such as '500MB'"):
        DuckDBEngine.open(tmp_path, {"index_size": "much"}, silent)


def test_a_project_keeps_indexes_unless_its_settings_say_otherwise(tmp_path) -> None:
    engine = DuckDBEngine.open(tmp_path, {}, silent)
    assert engine.indexes == IndexRules(indexes(tmp_path), 2 * 10**9)
    assert DuckDBEngine.open(tmp_path, {"index_size": "0"}, silent).indexes is None
    written(tmp_path, "0.parquet", rows(1))
    with hw.FeatureStore.in_memory([USER, view()], path=tmp_path) as store:
        assert store.context.open_engine().indexes is None


def test_what_is_kept_goes_once_rows_are_erased(tmp_path) -> None:
    written(tmp_path, "0.parquet", rows(1))
    answer(tmp_path, view(), spine(1), rules_in(tmp_path))
    assert kept_in(indexes(tmp_path))
    DuckDBEngine(tmp_path, indexes=rules_in(tmp_path)).forget()
    assert kept_in(indexes(tmp_path)) == []
    answer(tmp_path, view(), spine(1), rules_in(tmp_path))
    assert kept_in(indexes(tmp_path))
    DuckDBEngine.open(tmp_path, {"index_size": "0"}, silent).forget()
    assert kept_in(indexes(tmp_path)) == []
