"""Where indexes are kept: never more than they may take, whoever makes them at the same time."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.offline.index import folder as index_folder
from headwater.offline.index import writing
from headwater.offline.index.folder import IndexRules, KeptIndexes, kept_in, remove_all
from headwater.offline.index.sorting import Unsorted, Unsuitable
from headwater.scratch import locked_folder
from headwater.testing import SCALE
from tests.forked import Forked

MAKE = """
import sys
from pathlib import Path
import pyarrow as pa
from headwater.offline.index.folder import IndexRules, KeptIndexes
from headwater.offline.index.sorting import Unsorted, Unsuitable
folder, name, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
numbers = pa.array(range(2_000), pa.int64())
batch = pa.RecordBatch.from_arrays([numbers] * 4, names=["key", "event", "created", "ordinal"])
rows = Unsorted(lambda: [batch], lambda keys: pa.table({"k0": keys}), 2_000, True)
print("ready", flush=True)
sys.stdin.readline()
for i in range(20):
    index = KeptIndexes(IndexRules(folder, size), f"{name} {i}", "rows", lambda: ("files", 0), ("files", 0)).make(rows)
    if index is None:
        sys.exit(1)
    index.close()
"""


def rows(count: int, key_length: int = 0) -> Unsorted:
    """So many rows of a key each; the keys are texts of a length, or numbers."""
    numbers = pa.array(range(count), pa.int64())
    batch = pa.RecordBatch.from_arrays([numbers] * 4, names=["key", "event", "created", "ordinal"])

    def keys(wanted: np.ndarray) -> pa.Table:
        return pa.table({"k0": [f"{i:0{key_length}d}" for i in wanted.tolist()] if key_length else wanted})

    return Unsorted(lambda: [batch], keys, count, True)


def kept(rules: IndexRules, source: str, files: str = "files") -> KeptIndexes:
    return KeptIndexes(rules, source, "rows", lambda: (files, 0), (files, 0))


def made(rules: IndexRules, source: str, of: Unsorted, files: str = "files") -> bool:
    index = kept(rules, source, files).make(of)
    if index is not None:
        index.close()
    return index is not None


def taken(folder: Path) -> int:
    return sum(size for *_, size in kept_in(folder))


@pytest.mark.parametrize("key_length", [5, 500])
def test_one_that_is_larger_than_all_may_be_is_not_kept_and_costs_no_other(tmp_path: Path, key_length: int) -> None:
    rules = IndexRules(tmp_path, 60_000)
    assert made(rules, "small", rows(100))
    before = kept_in(tmp_path)
    large = rows(60_000 // 40, key_length)
    assert rules.worth(large.count, large.count, 1.0) is False or not made(rules, "large", large)
    assert before[0] in kept_in(tmp_path)
    assert taken(tmp_path) <= rules.size


def test_one_that_cannot_be_made_is_tried_again_once_more_may_be_taken_or_the_files_change(tmp_path: Path) -> None:
    read: list[int] = []
    large = rows(1_000, 100)

    def counted() -> list[pa.RecordBatch]:
        read.append(1)
        return list(large.batches())

    of = Unsorted(counted, large.keys, large.count, True)
    small, more = IndexRules(tmp_path, 50_000), IndexRules(tmp_path, 300_000)
    assert [made(small, "source", of) for _ in range(3)] == [False] * 3
    assert len(read) == 1
    assert made(small, "source", of, "changed") is False
    assert len(read) == 2
    assert made(more, "source", of)
    assert len(read) == 3
    remove_all(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_refusal_goes_once_the_files_change(tmp_path: Path) -> None:
    rules = IndexRules(tmp_path, 50_000)
    assert not made(rules, "source", rows(1_000, 100), "of before")
    assert made(rules, "source", rows(100), "of now")
    assert [path.suffix for _, path, _ in kept_in(tmp_path)] == [""]


@settings(max_examples=15 * SCALE, deadline=None)
@given(
    indexes=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(1, 400), st.integers(0, 60))),
    size=st.integers(0, 60_000),
)
def test_all_together_take_no_more_than_they_may(indexes: list[tuple[int, int, int, int]], size: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        rules = IndexRules(Path(name), size)
        for source, files, count, key_length in indexes:
            made(rules, f"source {source}", rows(count, key_length), f"files {files}")
            stored = [path for path in Path(name).iterdir() if path.suffix != ".refused"]
            assert sum(path.stat().st_size for path in stored) <= size


def test_a_file_is_never_written_beyond_what_it_may_take(tmp_path: Path) -> None:
    with pytest.raises(Unsuitable, match="larger than 20000 bytes"):
        writing.IndexWriter(tmp_path / "index", "rows", 20_000).write(rows(10_000))
    assert (tmp_path / "index").stat().st_size <= 20_000


def test_processes_that_make_some_at_once_keep_the_limit_together(tmp_path: Path) -> None:
    assert made(IndexRules(tmp_path, 10**6), "one", rows(2_000))
    size = int(taken(tmp_path) * 1.7)
    line = [sys.executable, "-c", MAKE, str(tmp_path)]
    processes = [
        Forked([*line, name, str(size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in ("a", "b")
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    most = 0
    while any(process.poll() is None for process in processes):
        # what is listed while others make room is of no one moment
        with locked_folder(tmp_path, 60) as held:
            assert held
            most = max(most, taken(tmp_path))
    assert [process.returncode for process in processes] == [0, 0]
    assert 0 < most <= size
    for process in processes:
        assert process.stdout is not None
        process.stdout.close()


def test_unfinished_files_of_whoever_is_gone_go(tmp_path: Path) -> None:
    left = tmp_path / ".an index of some other source.0123456789ab.unfinished"
    left.write_bytes(bytes(1000))
    assert made(IndexRules(tmp_path, 10**6), "one", rows(100))
    assert not left.exists()


def test_one_that_cannot_be_removed_makes_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(IndexRules(tmp_path, 10**6), "one", rows(1_000))
    before = kept_in(tmp_path)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError("not yours")

    with monkeypatch.context() as patched:
        patched.setattr(index_folder.Path, "unlink", refused)
        assert not made(IndexRules(tmp_path, int(taken(tmp_path) * 1.5)), "two", rows(1_000))
    assert before[0] in kept_in(tmp_path)


def test_a_listing_has_all_that_stays_while_others_go(tmp_path: Path) -> None:
    def name(number: int) -> Path:
        return tmp_path / "-".join([f"{number:024x}"] * 3)

    for number in range(100):
        name(number).write_bytes(b"stays")
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            for number in range(1_000, 1_050):
                name(number).write_bytes(b"")
            for number in range(1_000, 1_050):
                name(number).unlink()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        listed = [sum(size > 0 for *_, size in kept_in(tmp_path)) for _ in range(300)]
    finally:
        stop.set()
        thread.join()
    assert listed == [100] * 300
