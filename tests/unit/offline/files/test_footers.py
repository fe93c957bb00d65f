"""What footers tell: which files lack a column."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.offline.files.footers import lacking, read_footers
from headwater.planning.partitions import Partitions, partitions


def files_of(folder: Path, **columns: str) -> list[str]:
    files = []
    for name, text in columns.items():
        path = folder / f"{name}.parquet"
        pq.write_table(pa.table({column: [1] for column in text.split()}), path)
        files.append(str(path))
    return files


def test_the_first_file_that_lacks_a_column_is_named(tmp_path: Path) -> None:
    files = files_of(tmp_path, a="x", b="x Y", c="x")
    found = lacking(files, read_footers(files, "v"), ["x", "y", "z"], Partitions())
    assert found == {"y": f"{files[0]} and 1 more of 3 files", "z": f"{files[0]} and 2 more of 3 files"}


def test_a_partition_is_a_column_of_its_files(tmp_path: Path) -> None:
    files = []
    for day in ("1", "2"):
        folder = tmp_path / f"day={day}"
        folder.mkdir()
        files += files_of(folder, a="x")
    assert lacking(files, read_footers(files, "v"), ["x", "day"], partitions(files, tmp_path, ["x"])) == {}


def test_one_file_lacks_nothing_that_others_have(tmp_path: Path) -> None:
    files = files_of(tmp_path, a="x")
    assert lacking(files, read_footers(files, "v"), ["x", "y"], Partitions()) == {}
