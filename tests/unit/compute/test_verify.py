"""Verify: what is damaged is named with what is lost and how to go on; runs and histories go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

import headwater as hw
from headwater.errors import FormatError, LogDamaged, LogMismatch, UsageError
from headwater.offline.log.folder import checksum
from headwater.testing import SCALE

T0 = datetime(2026, 6, 1, tzinfo=UTC)
USER = hw.Entity("user", join_keys={"user": hw.Int64})
VIEWS = [
    hw.FeatureView(
        name,
        entity=USER,
        source=hw.PushSource(event_time="at"),
        features=[hw.Feature("x", hw.Int64), hw.Feature("note", hw.String)],
    )
    for name in ("clicks", "visits")
]


class Project:
    """A store on disk whose clock the test moves; both views have rows of users 0, 1 and 2, a file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = T0
        self.store = hw.FeatureStore(folder, clock=lambda: self.now)
        self.store.apply([USER, *VIEWS])
        for user in range(3):
            self.write(user)
            self.materialize()

    def write(self, user: int, view: str | None = None) -> None:
        for name in [view] if view else ["clicks", "visits"]:
            self.store.write(name, [{"user": user, "at": self.now, "x": user * 10, "note": f"note {user}"}])

    def materialize(self) -> hw.compute.reports.MaterializeReport:
        self.now += timedelta(minutes=1)
        return self.store.materialize()

    @property
    def log(self) -> Path:
        return self.folder / ".headwater/log"

    def files(self, view: str = "clicks") -> list[Path]:
        return sorted(self.log.glob(f"log-*-{view}-*.parquet"), key=lambda file: int(file.name.split("-")[-2]))

    def history(self, view: str = "clicks", users: int = 4) -> list[object]:
        spine = [{"user": user, "timestamp": self.now} for user in range(users)]
        return self.store.get_historical_features(spine, [f"{view}:x"]).to_arrow()["x"].to_pylist()

    def online(self, view: str = "clicks", users: int = 4) -> list[object]:
        return self.store.get_online_features([f"{view}:x"], list(range(users))).to_dict()["x"]

    def execute(self, sql: str, **values: object) -> None:
        with self.store.registry.engine.begin() as connection:
            connection.execute(sa.text(sql), values)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    yield project
    project.store.close()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def clear(file: Path) -> None:
    file.write_bytes(b"")


def remove(file: Path) -> None:
    file.unlink()


DAMAGES = [cut, flip, clear, remove]


def test_a_whole_store_is_whole(project: Project) -> None:
    project.write(3)
    project.store.delete("visits", [0])
    report = project.store.verify()
    assert report.whole and report.damaged == report.left_out == report.notes == ()
    assert (report.log_files, report.log_rows, report.buffered_rows, report.tombstones) == (6, 6, 2, 1)
    assert report.online_rows == 8 and not report.sampled
    assert project.store.verify(sample=2).sampled


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_with_what_is_lost_and_other_views_go_on(
    project: Project, damage: Callable[[Path], None]
) -> None:
    file = project.files()[1]
    content = file.read_bytes()
    damage(file)
    (found,) = project.store.verify().damaged
    assert (found.part, found.kind, found.view, found.name) == ("offline log", "file", "clicks", file.name)
    assert (found.rows, found.first, found.last) == (1, 3, 3)
    assert found.arrived_from == found.arrived_to == T0 + timedelta(minutes=1)
    assert f"headwater verify --forget {file.name}" in found.go_on
    with pytest.raises(LogDamaged, match=file.name):
        project.history()
    assert project.history("visits") == [0, 10, 20, None]
    assert any(file.name in warning for warning in project.store.status().warnings)
    # runs step over it, say so, and stay where they are
    before = project.store.status().versions
    project.write(3)
    report = project.materialize()
    assert any(file.name in warning for warning in report["clicks"].warnings)
    assert project.online() == project.online("visits") == [0, 10, 20, 30]
    after = {v.view: v.watermark for v in project.store.status().versions}
    assert after["clicks"] == next(v.watermark for v in before if v.view == "clicks") < after["visits"]
    # put back, all is well
    file.write_bytes(content)
    assert project.store.verify().whole
    assert project.history() == [0, 10, 20, 30]
    assert project.materialize().warnings == ()
    assert project.store.status().warnings == ()


@pytest.mark.parametrize("damage", [cut, remove] if SCALE == 1 else DAMAGES)
def test_the_log_goes_on_without_a_file_that_is_given_up(project: Project, damage: Callable[[Path], None]) -> None:
    file = project.files()[1]
    damage(file)
    report = project.store.verify(forget=[file.name])
    assert report.whole and report.forgotten == (file.name,)
    assert len(report.left_out) == 1 and file.name in report.left_out[0] and "1 row" in report.left_out[0]
    assert not file.exists()
    kept = project.log / f"forgotten-{file.name}"
    assert kept.exists() == (damage is not remove)
    spine = [{"user": 1, "timestamp": project.now}]
    result = project.store.get_historical_features(spine, ["clicks:x"])
    assert result.to_arrow()["x"].to_pylist() == [None]
    assert any(file.name in warning and "1 row" in warning for warning in result.metadata.warnings)
    project.write(3)
    assert any(file.name in warning for warning in project.materialize()["clicks"].warnings)
    assert project.history() == [0, None, 20, 30]
    assert any("clicks" in warning for warning in project.store.status().warnings)
    with pytest.raises(UsageError, match="not a file of the offline log"):
        project.store.verify(forget=[file.name])


def test_only_damaged_files_of_the_log_can_be_given_up(project: Project) -> None:
    for name in (project.files()[0].name, str(project.files()[0])):
        with pytest.raises(UsageError, match="is intact"):
            project.store.verify(forget=[name])
    for name in ("", "x", "log.json", "\x1b[31m"):
        with pytest.raises(UsageError, match="is not a file of the offline log"):
            project.store.verify(forget=[name])
    assert project.history() == [0, 10, 20, None]


def test_a_file_whose_damage_shows_only_in_reading_is_stepped_over_by_the_run(project: Project) -> None:
    file = project.files()[1]
    # of the same size, with a footer that cannot be read
    content = file.read_bytes()
    file.write_bytes(content[:-12] + b"\xff" * 4 + content[-8:])
    project.write(3)
    report = project.materialize()
    assert any(file.name in warning for warning in report["clicks"].warnings)
    assert project.online() == [0, 10, 20, 30]
    with pytest.raises(LogDamaged, match=file.name):
        project.history()


def test_force_removes_nothing_for_a_file_that_cannot_be_read(project: Project) -> None:
    cut(project.files()[1])
    with pytest.raises(LogDamaged):
        project.store.materialize("clicks", force=True)
    assert project.online() == [0, 10, 20, None]


def test_a_batch_that_cannot_be_decoded_is_set_apart_and_the_rest_goes_on(project: Project) -> None:
    project.write(3)
    project.write(4)
    project.execute(
        "UPDATE log_head SET batch = :batch WHERE first = (SELECT min(first) FROM log_head WHERE view = 'clicks')",
        batch=b"\0" * 40,
    )
    with hw.FeatureStore(project.folder, clock=lambda: project.now) as other:
        (found,) = other.verify().damaged
        assert (found.kind, found.view, found.rows) == ("batch", "clicks", 1) and "materialize clicks" in found.go_on
        spine = [{"user": user, "timestamp": project.now} for user in (3, 4)]
        result = other.get_historical_features(spine, ["clicks:x"])
        assert result.to_arrow()["x"].to_pylist() == [None, 40]
        assert result.metadata.views["clicks"].unreadable == 1
    report = project.materialize()
    assert any("1 rows of the offline log are left out" in warning for warning in report["clicks"].warnings)
    assert project.history(users=5) == [0, 10, 20, None, 40]
    assert project.history("visits", users=5) == [0, 10, 20, 30, 40]
    found_after = project.store.verify()
    assert found_after.whole and len(found_after.left_out) == 1
    assert any("clicks" in warning for warning in project.store.status().warnings)


def test_a_tombstone_that_cannot_be_decoded_still_hides_its_key(project: Project) -> None:
    project.store.delete("clicks", [1])
    project.execute("UPDATE log_deletes SET key = :key", key=b"nonsense")
    project.write(3)
    (found,) = project.store.verify().damaged
    assert (found.kind, found.view) == ("tombstone", "clicks")
    report = project.materialize()
    assert any("1 deletes whose keys cannot be read" in warning for warning in report["clicks"].warnings)
    assert project.history() == [0, None, 20, 30]
    assert project.online() == [0, None, 20, 30]


@pytest.mark.parametrize("content", [b"[]", b"", b'{"format": "2"}', b"\xff"])
def test_a_damaged_identity_of_the_folder_can_be_written_again(project: Project, content: bytes) -> None:
    identity = project.log / "log.json"
    whole = identity.read_bytes()
    with pytest.raises(UsageError, match="nothing to recreate"):
        project.store.verify(accept_folder=True)
    identity.write_bytes(content)
    with hw.FeatureStore(project.folder, clock=lambda: project.now) as other:
        with pytest.raises(FormatError, match=r"log\.json"):
            other.write("clicks", [{"user": 3, "at": project.now, "x": 30, "note": ""}])
        (found,) = other.verify().damaged
        assert found.kind == "folder" and "--accept-folder" in found.go_on
        assert other.verify(accept_folder=True).whole
        assert identity.read_bytes() == whole
        other.write("clicks", [{"user": 3, "at": project.now, "x": 30, "note": ""}])


def test_a_folder_that_lacks_files_is_not_accepted(project: Project) -> None:
    (project.log / "log.json").unlink()
    remove(project.files()[0])
    with pytest.raises(LogMismatch, match="missing or cut short"):
        project.store.verify(accept_folder=True)


def test_damaged_online_rows_and_watermarks_are_named(project: Project) -> None:
    online = project.store.context.online
    (key, row), *_ = [pair for pair in online.scan(b"") if pair[0][:1] != b"\0"]
    online.delete([key])
    online.put_meta({key: row[:-3]})
    (found,) = project.store.verify().damaged
    assert (found.part, found.kind) == ("online store", "row") and key.hex() in found.name
    view = found.view
    assert f"headwater materialize {view}@1.0.0 --force" in found.go_on
    project.store.materialize(view, force=True)
    assert project.store.verify().whole
    marks = list(online.scan(b"\0hwmeta\0w"))
    online.put_meta({marks[0][0]: b"\xc1damaged"})
    (found,) = project.store.verify().damaged
    assert (found.part, found.kind) == ("online store", "watermark")


def test_a_damaged_database_is_named(project: Project) -> None:
    project.store.close()
    path = project.folder / ".headwater/registry.db"
    content = bytearray(path.read_bytes())
    page = 4096
    for start in range(6 * page, len(content) - page, 3 * page):
        content[start : start + 200] = b"\xff" * 200
    path.write_bytes(content)
    with pytest.raises(hw.HeadwaterError), hw.FeatureStore(project.folder, clock=lambda: project.now) as store:
        report = store.verify()
        assert any(damage.part == "registry" for damage in report.damaged)
        raise FormatError("named")


@pytest.mark.parametrize("of_an_earlier_release", [False, True])
def test_text_of_a_file_that_is_not_utf8_is_left_out_named_and_counted(
    project: Project, of_an_earlier_release: bool
) -> None:
    file = project.files()[1]
    table = pq.read_table(file)
    odd = pa.array([b"\xff\xfe"], pa.binary())
    place = table.schema.get_field_index("note")
    text = pa.Array.from_buffers(pa.string(), 1, odd.buffers())
    pq.write_table(table.set_column(place, table.schema.field(place), text), file)
    content = file.read_bytes()
    size, digest = (None, None) if of_an_earlier_release else (len(content), checksum(content))
    project.execute("UPDATE log_files SET size = :s, checksum = :c WHERE name = :n", s=size, c=digest, n=file.name)
    (found,) = project.store.verify().damaged
    assert (found.kind, found.rows, found.first) == ("rows", 1, 3) and "'note' is not valid UTF-8" in found.reason
    spine = [{"user": user, "timestamp": project.now} for user in range(3)]

    def notes() -> hw.HistoryResult:
        return project.store.get_historical_features(spine, ["clicks:note"])

    # a result is fixed to files that are then written anew without these rows
    with pytest.raises(LogDamaged, match=r"not valid UTF-8 text.*they are left out from now on: run it again"):
        notes().to_arrow()
    result = notes()
    assert result.to_arrow()["note"].to_pylist() == ["note 0", None, "note 2"]
    assert result.metadata.views["clicks"].unreadable == 1
    project.write(3)
    assert any("1 rows of the offline log are left out" in text for text in project.materialize()["clicks"].warnings)
    assert project.history() == [0, None, 20, 30]
    report = project.store.verify()
    assert report.whole and len(report.left_out) == 1
    assert any("clicks" in warning for warning in project.store.status().warnings)
