"""The file of an index: the last row known of each key at any instant, however the rows come; damage is an error."""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.offline.index import file as index_file
from headwater.offline.index import pieces, sorting, writing
from headwater.offline.index.file import COUNTS, NEVER, IndexDamaged, IndexReader
from headwater.offline.index.sorting import Unsorted, Unsuitable
from headwater.offline.index.writing import IndexWriter
from headwater.testing import rounds


@dataclass(frozen=True)
class Row:
    """A row of a source; its number is its place in the list."""

    key: int
    event: int
    created: int

    @property
    def known(self) -> int:
        return max(self.event, self.created)


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups and their parts of so few rows that a few rows make several."""
    monkeypatch.setattr(index_file, "GROUP", 8)
    monkeypatch.setattr(index_file, "SPAN", 2)


def rows(scale: int = 1) -> st.SearchStrategy[list[Row]]:
    time = st.integers(-5, 30).map(lambda n: n * scale)
    return st.lists(st.builds(Row, st.integers(0, 4) | st.integers(0, 40), time, time), min_size=1, max_size=60)


def write(path: Path, given: list[Row], size: int, *, text: bool = False, as_known: bool = True) -> None:
    columns = [pa.array([getattr(row, n) for row in given], pa.int64()) for n in ("key", "event", "created")]
    table = pa.table([*columns, pa.array(range(len(given)), pa.int64())], ["key", "event", "created", "ordinal"])

    def keys(numbers: Any) -> pa.Table:
        return pa.table({"k0": [f"key {n}" for n in numbers] if text else numbers})

    rows = Unsorted(lambda: table.to_batches(size), keys, len(given), as_known)
    IndexWriter(path, "these rows").write(rows)


def last(given: list[Row], key: int, t: int) -> tuple[int, int, int | None] | None:
    """By hand: event time and number of the last row known at t, and its created time where another has its times."""
    there = [(row.event, row.created, i) for i, row in enumerate(given) if row.key == key and row.known <= t]
    if not there:
        return None
    event, created, number = max(there)
    tied = sum(row[:2] == (event, created) for row in there) > 1
    return event, number, created if tied else None


def last_event(given: list[Row], key: int, t: int) -> int:
    """By hand: the last event time of a key at or before t, of whatever row."""
    return max((row.event for row in given if row.key == key and row.event <= t), default=NEVER)


@pytest.mark.parametrize(
    ("part", "held", "at_once"), [(150_000, 10**6, 10**6), (10, 0, 10**6), (10, 200, 6), (30, 700, 7)]
)
@settings(max_examples=rounds(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), size=st.integers(1, 20), text=st.booleans(), as_known=st.booleans())
def test_the_last_row_known_of_each_key(
    monkeypatch: pytest.MonkeyPatch,
    part: int,
    held: int,
    at_once: int,
    data: st.DataObject,
    size: int,
    text: bool,
    as_known: bool,
) -> None:
    """However many rows stand in a part, are held, and are sorted at once."""
    for name, value in (("_PART", part), ("HELD", held), ("_SORTED", at_once), ("_SAMPLED", 2), ("_DEALT", 9)):
        monkeypatch.setattr(sorting, name, value)
    monkeypatch.setattr(pieces, "_DEALT", 11)
    scale = data.draw(st.sampled_from([1, 10**6, 2**55]))
    given = data.draw(rows(scale))
    if not as_known:
        given = [Row(row.key, row.event, min(row.event, row.created)) for row in given]
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "index", given, size, text=text, as_known=as_known)
        assert [file.name for file in Path(folder).iterdir()] == ["index"]
        with IndexReader(Path(folder) / "index", "these rows") as index:
            keys = pa.Table.from_batches(index.keys(), index.key_schema).to_pylist()
            number = {row["k0"]: int(str(row["k0"]).removeprefix("key ")) for row in keys}
            assert sorted(number.values()) == sorted({row.key for row in given})
            assert {number[k["k0"]]: k["rows"] for k in keys} == {
                key: sum(row.key == key for row in given) for key in number.values()
            }
            asked = [(k, t * scale) for k in keys for t in data.draw(st.lists(st.integers(-6, 31), max_size=6))]
            positions = {name: np.array([k[name] for k, _ in asked], np.int64) for name in COUNTS}
            times = np.array([t for _, t in asked], np.int64)
            known = index.last_known(positions["first"], positions["steps"], times)
            tied = pa.array(known.tied, mask=~known.has_tie).to_pylist()
            answers = iter(zip(known.event.tolist(), known.ordinal.tolist(), tied, strict=True))
            shown = [next(answers) if one else None for one in known.there]
            assert shown == [last(given, number[k["k0"]], t) for k, t in asked]
            found = index.last_event(positions, times)
            assert found.tolist() == [last_event(given, number[k["k0"]], t) for k, t in asked]
            newest = [t >= max(row.known for row in given if row.key == number[k["k0"]]) for k, t in asked]
            of_known = itertools.compress(newest, known.there)
            kept = {k["k0"]: k["lates"] == 0 for k in keys}
            for (k, _), all_known, told in zip(
                itertools.compress(asked, known.there), of_known, known.newest, strict=True
            ):
                assert told or not all_known
                assert all_known or not (told and kept[k["k0"]])
            equal = {tuple(row.values()) for batch in index.equal_rows() for row in batch.to_pylist()}
            for head in (row[1] for row in shown if row is not None and row[2] is not None):
                assert {one for of, one in equal if of == head} == {
                    i for i, row in enumerate(given) if row == given[head]
                }


def test_times_too_far_apart_and_no_rows_make_no_index(tmp_path: Path) -> None:
    far = [Row(1, -(2**62), 0), Row(1, 2**62, -(2**62)), Row(1, 5, 2**62 + 1), Row(1, 6, 2**62 + 2)]
    with pytest.raises(Unsuitable):
        write(tmp_path / "index", far, 10)
    with pytest.raises(Unsuitable):
        write(tmp_path / "index", [], 10)


def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The bytes that are read from and written to the files in which rows wait."""
    moved = {"readinto": 0, "write": 0}
    all_of = pieces._all_of

    def counting(move: Any, some: Any) -> None:
        moved[move.__name__] += some.nbytes
        all_of(move, some)

    monkeypatch.setattr(pieces, "_all_of", counting)
    return moved


@pytest.mark.parametrize("keys", [1, 2, 1_000])
@pytest.mark.parametrize("late", [False, True])
def test_rows_are_read_as_often_however_many_a_key_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: int, late: bool
) -> None:
    for name, value in (("_PART", 500), ("HELD", 0), ("_SORTED", 1_000), ("_DEALT", 400)):
        monkeypatch.setattr(sorting, name, value)
    monkeypatch.setattr(pieces, "_DEALT", 600)
    moved, most, run = counted(monkeypatch), [0], sorting._run

    def sorted_at_once(some: Any, **options: Any) -> Any:
        most.append(some.shape[1])
        return run(some, **options)

    monkeypatch.setattr(sorting, "_run", sorted_at_once)
    chance = np.random.default_rng(1)
    for count in (4_000, 32_000):
        moved.update(readinto=0, write=0)
        times = chance.integers(0, 10**9, (2, count)).tolist()
        write(
            tmp_path / "index",
            [
                Row(i % keys, event, other if late else event)
                for i, (event, other) in enumerate(zip(*times, strict=True))
            ],
            700,
        )
        size = count * 16
        assert moved["write"] <= 2 * size
        assert moved["readinto"] <= 3 * size
    assert max(most) <= 4_000


def test_too_many_rows_of_a_key_at_one_time_make_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("HELD", 0), ("_SORTED", 50), ("_TOGETHER", 100)):
        monkeypatch.setattr(sorting, name, value)
    with pytest.raises(Unsuitable, match="too many rows of a key"):
        write(tmp_path / "index", [Row(1, i, 1_000) for i in range(200)], 20)
    write(tmp_path / "index", [Row(1, i, i) for i in range(200)], 20)


def test_too_many_late_rows_of_a_key_make_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("HELD", 0), ("_SORTED", 50)):
        monkeypatch.setattr(sorting, name, value)
    monkeypatch.setattr(writing, "_LATE", 100)
    with pytest.raises(Unsuitable, match="too many late rows"):
        write(tmp_path / "index", [Row(1, -i, i) for i in range(500)], 20)
    write(tmp_path / "index", [Row(i // 50, -i, i) for i in range(500)], 20)


pairs = st.lists(st.tuples(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3)))


@given(ends=pairs, of=pairs)
def test_pairs_before_others_are_counted(ends: list[tuple[int, int]], of: list[tuple[int, int]]) -> None:
    ends = sorted(set(ends))
    major, minor = (np.array([end[i] for end in ends], np.int64) for i in range(2))
    some = tuple(np.array([pair[i] for pair in of], np.int64) for i in range(2))
    assert sorting._before((major, minor), (some[0], some[1])).tolist() == [sum(e < pair for e in ends) for pair in of]


def test_keys_are_written_block_by_block(tmp_path: Path) -> None:
    given = [Row(key, time, time) for key in range(50) for time in range(3)]
    table = pa.table(
        [pa.array([getattr(row, n) for row in given], pa.int64()) for n in ("key", "event", "created")]
        + [pa.array(range(len(given)), pa.int64())],
        ["key", "event", "created", "ordinal"],
    )
    asked: list[int] = []

    def keys(numbers: Any) -> pa.Table:
        asked.append(len(numbers))
        return pa.table({"k0": numbers})

    IndexWriter(tmp_path / "index", "these rows").write(Unsorted(lambda: table.to_batches(7), keys, 10**9, True))
    assert max(asked) == index_file.GROUP
    with IndexReader(tmp_path / "index", "these rows") as index:
        found = pa.Table.from_batches(index.keys(), index.key_schema).to_pydict()
    assert sorted(found["k0"]) == list(range(50))
    assert found["first"] == list(range(0, 150, 3))


ROWS = [Row(key, time, time + 1) for key in range(5) for time in range(20)]


def read_all(path: Path) -> list[Any]:
    with IndexReader(path, "these rows") as index:
        keys = pa.Table.from_batches(index.keys(), index.key_schema)
        first, steps = (np.asarray(keys.column(name).combine_chunks()) for name in ("first", "steps"))
        known = index.last_known(first, steps, np.full(len(first), 10, np.int64))
        assert known.there.all()
        return [*known.ordinal.tolist(), *(batch.to_pydict() for batch in index.equal_rows())]


def test_any_damaged_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "index"
    write(path, ROWS, 50)
    right, whole = read_all(path), path.read_bytes()
    unnoticed = 0
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x5A]) + whole[at + 1 :])
        try:
            # of rows that are not asked for
            assert read_all(path) == right, at
            unnoticed += 1
        except IndexDamaged:
            continue
    assert unnoticed < len(whole) / 3


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
def test_a_file_cut_short_or_missing_is_damage(tmp_path: Path, share: float) -> None:
    path = tmp_path / "index"
    write(path, ROWS, 50)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(IndexDamaged):
        read_all(path)
    path.unlink()
    with pytest.raises(IndexDamaged):
        read_all(path)


def test_an_index_of_other_rows_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "index", ROWS, 50)
    with pytest.raises(IndexDamaged):
        IndexReader(tmp_path / "index", "others")
