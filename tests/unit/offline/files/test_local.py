"""Files of a source on disk: which there are, under which paths, and what identifies each."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path

import pytest

from headwater.errors import SourceError
from headwater.offline.files import local as local_files
from headwater.offline.files.local import list_local, local_identities, root_of
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


def test_links_are_followed_and_each_file_is_read_once(lake: Path) -> None:
    folder = lake / "lake"
    every = ["lake/a.pq", "lake/b.parquet", "lake/link.parquet", "lake/x/c.parquet", "lake/x/day=1/d.parquet"]
    (folder / "link.parquet").symlink_to(lake / "lake/notes.txt")
    (folder / "again").symlink_to(folder)
    (folder / "x" / "above").symlink_to(folder)
    (folder / "latest.parquet").symlink_to("b.parquet")
    (folder / "0.parquet").symlink_to("b.parquet")
    (folder / "w").symlink_to("x")
    assert paths(lake, "lake") == paths(lake, "lake/**") == every
    assert paths(lake, "lake/**/*.p*") == paths(lake, "lake/**/**/*.p*") == every
    (lake / "whole").symlink_to(folder)
    assert paths(lake, "whole/x/day=1") == ["whole/x/day=1/d.parquet"]
    # of another partition the rows are others
    (lake / "days").mkdir()
    for day in (1, 2):
        (lake / f"days/day={day}").symlink_to(folder / "x/day=1")
    assert paths(lake, "days") == ["days/day=1/d.parquet", "days/day=2/d.parquet"]
    (lake / "days/far").symlink_to(folder)
    assert "days/far/x/c.parquet" in paths(lake, "days")


@pytest.mark.parametrize(
    ("name", "error"), [("dangling", r"is a link to .*nowhere/x\.parquet, which does not exist"), ("loop", "Too many")]
)
def test_a_link_to_nothing_is_an_error(lake: Path, name: str, error: str) -> None:
    link = lake / f"lake/{name}.parquet"
    link.symlink_to(lake / "nowhere/x.parquet" if name == "dangling" else link)
    for location in ("lake", "lake/*.parquet", f"lake/{name}.parquet"):
        with pytest.raises(SourceError, match=error if location == "lake" or name == "dangling" else "link|Too many"):
            paths(lake, location)


def test_a_path_is_what_is_there_and_only_else_a_pattern(tmp_path: Path) -> None:
    lake = tmp_path / "run[12]"
    for folder in ("run1", "run[12]", "run[12]/d*", "run[12]/dx"):
        for name in ("w.parquet", "w1.parquet", "w[1].parquet", "w?.parquet", "*.parquet"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / name).touch()
    for name in ("w.parquet", "w[1].parquet", "w?.parquet", "*.parquet"):
        assert [f.location for f in list_local(name, lake, SUFFIXES, "source")] == [f"{lake}/{name}"]
        assert paths(tmp_path, f"run[12]/{name}") == [f"run[12]/{name}"]
        assert paths(lake, f"d*/{name}") == [f"d*/{name}"]
        assert paths(lake, str(lake / name)) == [str(lake / name)]
    assert paths(lake, "w[2-9?].parquet") == ["w?.parquet"]
    assert paths(lake, "d?/w[!.].parquet") == ["d*/w1.parquet", "d*/w?.parquet", "dx/w1.parquet", "dx/w?.parquet"]
    assert root_of("d*/w[!.].parquet", lake) == lake / "d*" and root_of("d?/w.parquet", lake) == lake
    assert len(paths(lake, "d*")) == 5


def test_hidden_names_are_read_where_they_are_written_and_endings_in_any_case(tmp_path: Path) -> None:
    for name in (
        "_a.parquet",
        ".b.parquet",
        "C.PARQUET",
        "d.Pq",
        "_x/e.parquet",
        "x/_y/f.parquet",
        "spark.parquet/part-0.parquet",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert paths(tmp_path, ".") == ["C.PARQUET", "d.Pq", "spark.parquet/part-0.parquet"]
    assert paths(tmp_path, "*.parquet") == ["spark.parquet/part-0.parquet"]
    for name in ("_a.parquet", ".b.parquet", "C.PARQUET", "_x/e.parquet", "x/_y/f.parquet"):
        assert paths(tmp_path, name) == [name]
    assert paths(tmp_path, "_*.parquet") == ["_a.parquet"] and paths(tmp_path, "_?/*.parquet") == ["_x/e.parquet"]
    assert paths(tmp_path, "x/_y") == paths(tmp_path, "*/_y/*") == ["x/_y/f.parquet"]


def test_urls_of_files_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("home/a b%20.parquet", "home/a.parquet", "project/~/b.parquet", "project/c.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    project, home = tmp_path / "project", tmp_path / "home"
    wanted = [str(home / "a b%20.parquet")]
    for location in (
        f"file://{home}/a%20b%2520.parquet",
        f"file://localhost{home}/a b%20.parquet",
        f"file:{home}/a b*.parquet",
    ):
        assert paths(project, location) == wanted
    assert paths(project, f"FILE://{home}/a.p*") == paths(project, "~/a.parquet") == [str(home / "a.parquet")]
    assert paths(project, "~/b.parquet") == ["~/b.parquet"]
    with pytest.raises(SourceError, match=r"a path in a file URL is absolute: file:///c\.parquet"):
        paths(project, "file://c.parquet")


@pytest.mark.parametrize(
    ("location", "error"),
    [
        (
            "hdfs://name:8020/data/x",
            "hdfs:// cannot be read; a source is a path, or a URL that begins with file://, s3://",
        ),
        ("dbfs:/mnt/x", "dbfs:// cannot be read.*below /dbfs/"),
        (
            "https://user:secret@host/x.parquet?token=abc",
            r"https://user:\*\*\*@host/x.parquet.* cannot be read.*download the file",
        ),
        ("s3a://bucket/x", "write s3://"),
        ("C:\\data\\x.parquet", "a Windows path; here '/' separates folders: C:/data/x.parquet"),
        ("data\\x.parquet", "a Windows path; here '/' separates folders: data/x.parquet"),
        ("s3://bucket/x.csv", "in object stores only Parquet is supported; copy the files into a folder"),
    ],
)
def test_what_cannot_be_read_says_what_can(tmp_path: Path, location: str, error: str) -> None:
    with pytest.raises(SourceError, match=error) as found:
        paths(tmp_path, location)
    assert "secret" not in str(found.value)


def test_a_folder_without_such_files_says_what_it_has(lake: Path) -> None:
    for name in ("a.csv", "b.csv", "c.txt", "_d.parquet"):
        (lake / "some" / name).parent.mkdir(exist_ok=True)
        (lake / "some" / name).touch()
    (lake / "none").mkdir()
    expected = (
        r"no file at .*some: the folder .*some has 3 files, none of which ends in .parquet or .pq: a.csv, b.csv, "
        "c.txt; left out, since names that begin with _ or . are: _d.parquet"
    )
    for location, error in (
        ("some", expected),
        ("none", "no file at .*none: the folder .*none has no files"),
        ("lake/b.parqet", "no file at .*b.parqet; did you mean 'b.parquet'"),
        ("lake/*/day=*", "it matches only folders .day=1.; /[*].parquet or /[*][*]"),
        ("some/*.parquet", "no file at .*some/[*].parquet"),
    ):
        with pytest.raises(SourceError, match=error):
            paths(lake, location)


@pytest.mark.parametrize("mark", ["_delta_log/0.json", "metadata/v1.metadata.json", ".hoodie/x"])
def test_a_table_format_is_no_folder_of_files(lake: Path, mark: str) -> None:
    for name in (f"t/{mark}", "t/day=1/a.parquet", "t/b.parquet", "plain/metadata/about.json", "plain/c.parquet"):
        (lake / "tables" / name).parent.mkdir(parents=True, exist_ok=True)
        (lake / "tables" / name).touch()
    kind = {"_": "a Delta", "m": "an Iceberg", ".": "a Hudi"}[mark[0]]
    for location in (
        "tables/t",
        "tables",
        "tables/t/*.parquet",
        "tables/**/*.parquet",
        "tables/t/day=1",
        "tables/t/b.parquet",
    ):
        with pytest.raises(
            SourceError, match=f"source: .*/tables/t is {kind} table: as plain files, rows that were updated"
        ):
            paths(lake, location)
    assert paths(lake, "tables/plain") == ["tables/plain/c.parquet"]
    (lake / "linked").symlink_to(lake / "tables/t/day=1")
    with pytest.raises(SourceError, match=f"{kind} table"):
        paths(lake, "linked")


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
    local_files.this_host.cache_clear()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(local_files, "blake2b", lambda *_, **__: hashlib.sha1(b"another"))
        elsewhere = identity()
    local_files.this_host.cache_clear()
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
