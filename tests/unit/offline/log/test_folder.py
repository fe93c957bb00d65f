"""The folder of compacted files: its identity, its files' names and bytes, whatever else is in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.errors import FormatError, HeadwaterError, LogDamaged, LogMismatch
from headwater.offline.log.folder import (
    GIVEN_UP,
    SET_ASIDE,
    FileUnreachable,
    FoundFile,
    LogFolder,
    StoredFile,
)

LOG_ID = "0123456789abcdef"
ROWS = pa.table({"k": ["a", "b"], "__position": [3, 5], "__arrival": [70, 80]})


@pytest.fixture
def folder(tmp_path: Path) -> LogFolder:
    folder = LogFolder(tmp_path / "log", LOG_ID)
    folder.mark()
    return folder


def test_what_was_written_is_read_back(folder: LogFolder) -> None:
    stored = folder.write("w-1", ROWS)
    assert folder.read(stored) == ROWS
    assert folder.missing(stored) is None
    assert folder.damage(stored) is None
    assert list(folder.found()) == [FoundFile(stored.name, "w-1", 3, 5)]
    assert stored.size == (folder.path / stored.name).stat().st_size
    assert folder.remove([stored.name, "gone"]) == []
    assert list(folder.found()) == []


def test_a_file_of_an_earlier_release_has_no_checksum(folder: LogFolder) -> None:
    stored = StoredFile(folder.write("w", ROWS).name)
    assert folder.read(stored) == ROWS
    assert folder.missing(stored) is folder.damage(stored) is None
    content = (folder.path / stored.name).read_bytes()
    (folder.path / stored.name).write_bytes(content[: len(content) // 2])
    assert "damaged" in str(folder.damage(stored))
    pq.write_table(pa.table({"k": ["a"]}), folder.path / stored.name)
    assert "no column __position" in str(folder.damage(stored))


def truncated(content: bytes) -> bytes:
    return content[:-1]


def empty(content: bytes) -> bytes:
    return b""


def flipped(content: bytes) -> bytes:
    return content[:40] + bytes([content[40] ^ 1]) + content[41:]


def longer(content: bytes) -> bytes:
    return content + b"x"


@pytest.mark.parametrize("change", [truncated, empty, flipped, longer])
def test_changed_bytes_are_damage(folder: LogFolder, change: Callable[[bytes], bytes]) -> None:
    stored = folder.write("w", ROWS)
    path = folder.path / stored.name
    content = path.read_bytes()
    path.write_bytes(change(content))
    assert folder.damage(stored)
    assert bool(folder.missing(stored)) == (len(change(content)) != len(content))
    with pytest.raises(LogDamaged, match=stored.name):
        folder.read(stored)
    path.write_bytes(content)
    assert folder.damage(stored) is None


def test_a_missing_file_is_told_from_a_damaged_one(folder: LogFolder) -> None:
    stored = StoredFile("log-01234567-w-1-2-00000000.parquet", 100, b"x" * 16)
    assert folder.missing(stored) == folder.damage(stored) == "is missing"
    with pytest.raises(FileUnreachable):
        folder.read(stored)
    (folder.path / stored.name).mkdir()
    assert "cannot be read" in str(folder.damage(stored))
    with pytest.raises(FileUnreachable):
        folder.read(stored)


STRAYS = [
    "log-01234567-old.parquet",
    "log-01234567-.parquet",
    "log-01234567-w-1-x-00000000.parquet",
    "log-01234567-w-5-1-00000000.parquet",
    "log-01234567-w-1-99999999999999999-00000000.parquet",
    "log-01234567-w-1-9999999999999999999999999-00000000.parquet",
    "log-01234567-w-1-2-00000000 (copy).parquet",
    "log-01234567-w-1-٣-00000000.parquet",
    "log-ffffffff-w-1-2-00000000.parquet",
    "notes.txt",
    "restored-.parquet",
    "a\nb\x1b[31m",
    "ü" * 100,
]


@pytest.mark.parametrize("name", STRAYS)
def test_a_stray_file_is_nobodys(folder: LogFolder, name: str) -> None:
    (folder.path / name).touch()
    assert list(folder.found()) == []
    assert folder.foreign() == [name]


def test_names_say_what_a_file_is(folder: LogFolder) -> None:
    for name in ("w-1-2", "a-b-3-4"):
        for prefix in ("", SET_ASIDE, GIVEN_UP):
            (folder.path / f"{prefix}log-01234567-{name}-0a1b2c3d.parquet").touch()
    (folder.path / "log-01234567-w-1-2-0a1b2c3d.parquet.tmp").touch()
    found = {(f.prefix, f.view, f.first, f.last, f.temporary) for f in folder.found()}
    files = {(p, v, a, b, False) for p in ("", SET_ASIDE, GIVEN_UP) for v, a, b in (("w", 1, 2), ("a-b", 3, 4))}
    assert found == files | {("", "w", 1, 2, True)}
    assert folder.foreign() == []
    aside = next(f for f in folder.found() if f.prefix == SET_ASIDE and f.view == "w")
    assert folder.rename(aside, GIVEN_UP) == "forgotten-log-01234567-w-1-2-0a1b2c3d.parquet"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[]", "not a JSON object"),
        (b"3", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[" * 60_000, "not JSON"),
        (b'{"format": "2"}', "its format is not a number"),
        (b'{"format": true}', "its format is not a number"),
        (b'{"format": 1.5}', "its format is not a number"),
        (b'{"format": 2}', "format 2, this headwater reads up to 1: upgrade"),
        (b'{"format": ' + b"9" * 4_000 + b"}", "upgrade"),
        (b'{"format": 1, "log_id": 7}', "its log_id is not an id"),
        (b'{"format": 1, "folder": ["x"]}', "its folder is not an id"),
        (b'{"format": 1, "folder": "' + b"x" * 9_000 + b'"}', "its folder is not an id"),
        (b'{"format": 1, "folder": "\\u001b[31m"}', "its folder is not an id"),
    ],
)
def test_a_damaged_identity_is_named(folder: LogFolder, content: bytes, why: str) -> None:
    (folder.path / "log.json").write_bytes(content)
    with pytest.raises(FormatError, match=r"log\.json: ") as error:
        folder.check("mark")
    assert why in str(error.value)
    assert len(str(error.value)) < 500


def test_another_logs_identity_is_refused(folder: LogFolder) -> None:
    with pytest.raises(LogMismatch, match="belongs to another folder"):
        folder.check("mark")
    (folder.path / "log.json").write_text('{"format": 1, "log_id": "other", "folder": "mark"}')
    with pytest.raises(LogMismatch, match="other"):
        folder.check("mark")


quiet = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["format", "log_id", "folder"]), inner),
    max_leaves=8,
)


@quiet
@given(content=st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_identity_ends_in_an_error_of_headwater(folder: LogFolder, content: bytes) -> None:
    (folder.path / "log.json").write_bytes(content)
    try:
        folder.check(None)
    except HeadwaterError as error:
        assert len(str(error)) < 1_000


@quiet
@given(data=st.data())
def test_any_bytes_of_a_file_end_in_damage(folder: LogFolder, data: st.DataObject) -> None:
    stored = folder.write("w", ROWS)
    path = folder.path / stored.name
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        at, bits = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(1, 255))
        content[at] ^= bits
        changed = bytes(content)
    else:
        changed = data.draw(st.binary(max_size=300))
    path.write_bytes(changed)
    assert folder.damage(stored)
    with pytest.raises(LogDamaged):
        folder.read(stored)
    # without a checksum Parquet's own reading tells, or the rows are other ones: it never ends in another error
    unknown = StoredFile(stored.name)
    folder.damage(unknown)
    try:
        folder.read(unknown)
    except LogDamaged as error:
        assert len(str(error)) < 1_000
    folder.remove([stored.name])
