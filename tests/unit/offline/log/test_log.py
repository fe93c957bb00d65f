"""The offline log on SQLite: its clock, its folder, its file; the suite is run in tests/conformance."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.clock import to_micros
from headwater.errors import LogMismatch
from headwater.offline.log.log import OfflineLog
from headwater.offline.log.tombstones import Digests
from headwater.testing import SCALE
from headwater.testing.log_suite import content, group, rows

T0 = datetime(2024, 1, 1, tzinfo=UTC)


class Ticking:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.at = T0

    def __call__(self) -> datetime:
        return self.at


def engine_of(folder: Path) -> sa.Engine:
    return sa.create_engine(f"sqlite:///{folder}/registry.db", connect_args={"timeout": 30})


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def log(tmp_path: Path, clock: Ticking) -> OfflineLog:
    return OfflineLog(engine_of(tmp_path), tmp_path / "log", clock)


def test_arrival_is_the_clocks_and_never_goes_back(log: OfflineLog, clock: Ticking) -> None:
    def arrival() -> int:
        return int(log.append("w", [group(rows(["a"], [1.0]))])[0].table.column("__arrival")[0].as_py())

    assert arrival() == to_micros(T0)
    clock.at = T0 - timedelta(hours=1)
    with pytest.warns(UserWarning, match="1h earlier"):
        assert arrival() == to_micros(T0)
    clock.at = T0 + timedelta(hours=1)
    assert arrival() == to_micros(clock.at)


def test_small_files_are_merged_and_the_old_ones_stay_a_day(log: OfflineLog, clock: Ticking, tmp_path: Path) -> None:
    for i in range(9):
        log.append("w", [group(rows([str(i)], [float(i)]))])
        log.roll()
    assert [key for _, key, _ in content(log)] == [str(i) for i in range(9)]
    assert sum(len(part.files) for part in log.slice("w", ["k"]).parts) == 1
    assert len(list((tmp_path / "log").glob("*.parquet"))) == 9
    clock.at += timedelta(days=2)
    log.append("w", [group(rows(["9"], [9.0]))])
    log.roll()
    assert len(list((tmp_path / "log").glob("*.parquet"))) == 2
    assert len(content(log)) == 10


def test_another_logs_folder_is_refused(log: OfflineLog, tmp_path: Path, clock: Ticking) -> None:
    log.append("w", [group(rows(["a"], [1.0]))])
    log.roll()
    other = tmp_path / "other"
    other.mkdir()
    found = OfflineLog(engine_of(other), tmp_path / "log", clock)
    with pytest.raises(LogMismatch, match=log.log_id):
        found.claim(0)


@settings(max_examples=10 * SCALE, deadline=None)
@given(
    left=st.tuples(*[st.one_of(st.integers(-5, 5), st.text(max_size=3), st.binary(max_size=3), st.booleans())] * 2),
    right=st.tuples(*[st.one_of(st.integers(-5, 5), st.text(max_size=3), st.binary(max_size=3), st.booleans())] * 2),
)
def test_digests_tell_keys_apart(left: tuple[object, ...], right: tuple[object, ...]) -> None:
    digests = Digests(b"salt")
    same = [type(v) for v in left] == [type(v) for v in right] and left == right
    assert (digests.one(("a", "b"), left) == digests.one(("a", "b"), right)) == same


def test_a_registry_restored_from_an_old_copy_loses_no_file(log: OfflineLog, tmp_path: Path, clock: Ticking) -> None:
    log.append("w", [group(rows(["a"], [1.0]))])
    log.roll()
    shutil.copy(tmp_path / "registry.db", tmp_path / "copy.db")
    log.append("w", [group(rows(["b"], [2.0]))])
    log.roll()
    log._engine.dispose()
    shutil.copy(tmp_path / "copy.db", tmp_path / "registry.db")
    again = OfflineLog(engine_of(tmp_path), tmp_path / "log", clock)
    again.claim(0)
    (position,) = again.append("w", [group(rows(["c"], [3.0]))])[0].table.column("__position").to_pylist()
    assert position > 2
    again.roll()
    assert content(again) == [(1, "a", 1.0), (position, "c", 3.0)]
    assert len(list((tmp_path / "log").glob("restored-*-w-2-2-*"))) == 1
