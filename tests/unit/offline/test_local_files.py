"""Files of a source on disk: which there are, under which paths, and what identifies each."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from headwater.errors import SourceError
from headwater.offline import local_files
from headwater.offline.local_files import list_local, local_identities, root_of
from headwater.planning.files import FileIdentity, same_file

SUFFIXES = (".parquet", ".pq")


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    for name in (
        "b.parquet",
        "a.pq",
        "x/c.parquet",
        "x/day=1/d.parquet",
        "notes.txt",
        "_old/e.parquet",
        "x/.f.parquet",
    ):
        path = tmp_path / "lake" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def paths(folder: Path, location: str) -> list[str]:
    return [file.path for file in list_local(location, folder, SUFFIXES, "source")]


def test_a_folder_its_folders_and_what_is_left_out(lake: Path) -> None:
    every = ["lake/a.pq", "lake/b.parquet", "lake/x/c.parquet", "lake/x/day=1/d.parquet"]
    assert paths(lake, "lake") == paths(lake, "lake/") == paths(lake, "./lake") == every
    assert paths(lake / "lake", "../lake") == [f"../{path}" for path in every]
    assert paths(lake, "lake/x/c.parquet") == paths(lake, "lake/*/c.parquet") == ["lake/x/c.parquet"]
    assert paths(lake, "lake/**/*.parquet") == [path for path in every if path.endswith(".parquet")]
    assert paths(lake, "lake/notes.txt") == ["lake/notes.txt"]
    assert paths(lake, "lake/_old") == ["lake/_old/e.parquet"]


def test_an_absolute_path_stays_one_and_a_relative_one_moves_with_the_project(lake: Path, tmp_path: Path) -> None:
    assert paths(lake, str(lake / "lake/b.parquet")) == [str(lake / "lake/b.parquet")]
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.move(lake / "lake", tmp_path / "elsewhere/lake")
    assert paths(tmp_path / "elsewhere", "lake/b.parquet") == ["lake/b.parquet"]
    assert list_local("lake/b.parquet", tmp_path / "elsewhere", (), "source")[0].location == f"{moved}/b.parquet"


def test_links_to_files_are_followed_and_links_to_folders_below_are_not(lake: Path) -> None:
    folder = lake / "lake"
    (folder / "link.parquet").symlink_to(lake / "lake/notes.txt")
    (folder / "dangling.parquet").symlink_to(lake / "nowhere")
    (folder / "loop.parquet").symlink_to(folder / "loop.parquet")
    (folder / "again").symlink_to(folder)
    assert paths(lake, "lake") == [
        *("lake/a.pq", "lake/b.parquet", "lake/link.parquet", "lake/x/c.parquet", "lake/x/day=1/d.parquet")
    ]
    (lake / "whole").symlink_to(folder)
    assert paths(lake, "whole/x") == ["whole/x/c.parquet", "whole/x/day=1/d.parquet"]


def test_what_is_not_there_is_named(lake: Path) -> None:
    for location in ("nowhere", "lake/*.csv", "lake/empty"):
        with pytest.raises(SourceError, match=f"source: no file at .*{Path(location).name.replace('*', '.')}"):
            paths(lake, location)


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refused(path: str) -> object:
        if str(path).endswith("/x"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(SourceError, match=r"source: cannot list .*lake/x: Permission denied"):
        paths(lake, "lake")


def test_a_name_that_is_not_utf8_is_named(lake: Path) -> None:
    (lake / os.fsdecode(b"lake/\xff.parquet")).write_text("x")
    with pytest.raises(SourceError, match=r"lake/\\udcff\.parquet: the name of the file is not UTF-8"):
        paths(lake, "lake")


def test_the_root_of_a_glob_is_what_comes_before_its_first_wildcard(tmp_path: Path) -> None:
    assert root_of("a/b", tmp_path) == tmp_path / "a/b"
    assert root_of("a/x*/b/?.parquet", tmp_path) == tmp_path / "a"


def test_an_identity_changes_with_the_content(lake: Path) -> None:
    path = lake / "lake/b.parquet"
    (file,) = list_local("lake/b.parquet", lake, SUFFIXES, "source")

    def identity() -> FileIdentity:
        return local_identities([file], "source")[0]

    first = identity()
    assert same_file(first, identity())
    stat = path.stat()
    assert (first.size, first.modified_ns, first.inode) == (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    path.write_text("c.parquet")
    changed = identity()
    assert not same_file(first, changed)
    # another file of the same size and time takes its place
    other = lake / "other"
    other.write_text("d.parquet")
    os.utime(other, ns=(changed.modified_ns, changed.modified_ns))
    other.rename(path)
    replaced = identity()
    assert not same_file(changed, replaced)
    # of another host the inode says nothing
    local_files._host.cache_clear()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(local_files.hashlib, "blake2b", lambda *_, **__: local_files.hashlib.sha1(b"another"))
        elsewhere = identity()
    local_files._host.cache_clear()
    assert elsewhere.device != replaced.device and same_file(elsewhere, replaced)


def test_a_link_is_the_file_that_it_leads_to(lake: Path) -> None:
    link = lake / "lake/link.parquet"
    link.symlink_to(lake / "lake/a.pq")
    (file,) = list_local("lake/link.parquet", lake, SUFFIXES, "source")
    (before,) = local_identities([file], "source")
    assert before.size == len("a.pq")
    link.unlink()
    link.symlink_to(lake / "lake/b.parquet")
    assert not same_file(before, local_identities([file], "source")[0])


def test_a_file_that_is_gone_by_now_is_left_out(lake: Path) -> None:
    files = list_local("lake", lake, SUFFIXES, "source")
    (lake / "lake/b.parquet").unlink()
    assert [file.path for file in local_identities(files, "source")] == [
        *("lake/a.pq", "lake/x/c.parquet", "lake/x/day=1/d.parquet")
    ]


def test_thousands_of_files_are_listed_in_one_walk(tmp_path: Path) -> None:
    for day in range(50):
        (tmp_path / f"many/day={day}").mkdir(parents=True)
        for part in range(100):
            (tmp_path / f"many/day={day}/{part}.parquet").touch()
    began = time.process_time()
    found = local_identities(list_local("many", tmp_path, SUFFIXES, "source"), "source")
    assert len({file.path for file in found}) == 5_000
    assert time.process_time() - began < 2
