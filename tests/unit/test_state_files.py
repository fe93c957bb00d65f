"""What headwater keeps under `.headwater` is readable by its owner alone, whatever the umask, and whoever made it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import headwater as hw

T0 = datetime(2026, 6, 1, tzinfo=UTC)
PERSON = hw.Entity("person", join_keys={"email": hw.String})
VIEW = hw.FeatureView(
    "visits",
    entity=PERSON,
    source=hw.PushSource(event_time="at"),
    features=[hw.Feature("pages", hw.Int64)],
    freshness_sla="1m",
)


@pytest.fixture(params=[0o000, 0o022, 0o027], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def readable(folder: Path) -> list[str]:
    """What others, or the group, have any right to."""
    found = [folder, *folder.rglob("*")]
    return sorted(f"{path.name} {path.stat().st_mode & 0o777:o}" for path in found if path.stat().st_mode & 0o077)


def use(folder: Path) -> None:
    """A little of everything that writes files."""
    now = T0
    with hw.FeatureStore(folder, clock=lambda: now) as store:
        store.apply([PERSON, VIEW])
        for i in range(3):
            store.write("visits", [{"email": f"p{i}@example.com", "at": now, "pages": i}])
            store.materialize()
            assert readable(folder / ".headwater") == []
        store.delete("visits", ["p1@example.com"], purge=True)
        now += timedelta(hours=1)
        store.materialize()
        spine = [{"email": "p2@example.com", "timestamp": now}]
        assert store.get_historical_features(spine, ["visits:pages"]).to_arrow()["pages"].to_pylist() == [2]
        assert readable(folder / ".headwater") == []


def test_files_are_made_for_their_owner_alone(tmp_path: Path, umask: int) -> None:
    use(tmp_path)
    assert readable(tmp_path / ".headwater") == []
    files = {path.name.partition(".")[2] for path in (tmp_path / ".headwater").rglob("*") if path.is_file()}
    assert {"db", "parquet", "json", "mdb"} <= files


def test_a_file_that_the_settings_name_elsewhere_follows_the_umask(tmp_path: Path, umask: int) -> None:
    (tmp_path / "headwater.toml").write_text('[offline]\nlog = "log"\n[registry]\nurl = "sqlite:///shared.db"\n')
    use(tmp_path)
    assert (tmp_path / "shared.db").stat().st_mode & 0o777 == 0o644 & ~umask
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "log").glob("*.parquet")}
    assert modes == {0o666 & ~umask}


def test_what_an_earlier_release_left_open_is_closed_when_it_is_opened(tmp_path: Path) -> None:
    use(tmp_path)
    state = tmp_path / ".headwater"
    for path in (state, *state.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    with hw.FeatureStore(tmp_path, clock=lambda: T0 + timedelta(hours=2)) as store:
        assert readable(state) == []
        assert not [warning for warning in store.status().warnings if "other users" in warning]


def test_status_names_what_others_can_read_and_this_user_cannot_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(tmp_path)
    state = tmp_path / ".headwater"
    state.chmod(0o755)
    (state / "registry.db").chmod(0o644)
    # another user's files
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with hw.FeatureStore(tmp_path, clock=lambda: T0 + timedelta(hours=2)) as store:
        (warning,) = [text for text in store.status().warnings if "other users" in text]
    assert "registry.db" in warning and "chmod -R go-rwx .headwater" in warning


def test_a_registry_that_was_restored_is_its_owners_alone_too(tmp_path: Path) -> None:
    use(tmp_path)
    db = tmp_path / ".headwater" / "registry.db"
    content = db.read_bytes()
    now = T0 + timedelta(hours=2)
    with hw.FeatureStore(tmp_path, clock=lambda: now) as store:
        store.status()
        copy = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_bytes(sys.stdin.buffer.read())"
        for path in db.parent.glob("registry.db*"):
            path.unlink()
        subprocess.run([sys.executable, "-c", copy, str(db)], input=content, check=True, umask=0o022)
        store.write("visits", [{"email": "p5@example.com", "at": now, "pages": 5}])
        assert readable(db.parent) == []
