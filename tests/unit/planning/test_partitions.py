"""Hive partitions: which folders of a path are columns, and of which type."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.planning.partitions import Partitions, partition_names, partitions


def of(*files: str, root: str = "/data", columns: Sequence[str] = ()) -> Partitions:
    return partitions([f"{root}/{file}" for file in files], root, columns)


def test_folders_below_the_root_are_columns() -> None:
    found = of("day=2026-05-30/shop=007/a.parquet", "day=2026-05-31/shop=12/b.parquet")
    assert found.types == {"day": pa.date32(), "shop": pa.string()}
    assert found.values == ({"day": "2026-05-30", "shop": "007"}, {"day": "2026-05-31", "shop": "12"})
    assert found.uniform


@pytest.mark.parametrize("root", ["/x=1", "/x=1/data", "/k=5/__position=3/y=2"])
def test_folders_above_the_root_are_none(root: str) -> None:
    assert of("a.parquet", root=root) == Partitions({}, ({},))
    assert of("n=3/a.parquet", root=root).types == {"n": pa.int64()}


def test_a_file_is_its_own_root() -> None:
    assert partitions(["/d/x=1/a.parquet"], "/d/x=1/a.parquet", []) == Partitions({}, ({},))


def test_a_column_of_a_file_is_never_replaced_whatever_its_case() -> None:
    assert of("X=1/day=2/a.parquet", "x=2/day=3/a.parquet", columns=["x"]).types == {"day": pa.int64()}


def test_names_of_headwaters_own_columns_are_left_alone() -> None:
    found = of("__row=1/__position=2/n=3/a.parquet")
    assert found == Partitions({"n": pa.int64()}, ({"n": "3"},))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-3", "0"], pa.int64()),
        (["1", "007"], pa.string()),
        (["1", "+4"], pa.string()),
        (["1.0"], pa.string()),
        (["9223372036854775807", "-9223372036854775808"], pa.int64()),
        (["9223372036854775808"], pa.string()),
        (["٣"], pa.string()),
        (["2026-02-28"], pa.date32()),
        (["2026-02-30"], pa.string()),
        (["2026-02-28", "3"], pa.string()),
        (["__HIVE_DEFAULT_PARTITION__", "3"], pa.int64()),
        (["__HIVE_DEFAULT_PARTITION__"], pa.string()),
        ([""], pa.string()),
    ],
)
def test_a_type_is_that_of_all_values(values: list[str], kind: pa.DataType) -> None:
    found = of(*(f"x={value}/a.parquet" for value in values))
    assert found.types == {"x": kind}
    assert [file["x"] for file in found.values] == [None if v.startswith("__HIVE") else v for v in values]


def test_a_file_without_the_folder_lacks_the_column() -> None:
    found = of("x=1/a.parquet", "b.parquet")
    assert found.values == ({"x": "1"}, {})
    assert not found.uniform


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)


@given(pairs=st.dictionaries(names, names, max_size=3), above=st.dictionaries(names, names, max_size=2))
def test_what_was_written_is_read_back(pairs: dict[str, str], above: dict[str, str]) -> None:
    def folders(some: dict[str, str]) -> str:
        return "".join(f"{quote(k, safe='')}={quote(v, safe='')}/" for k, v in some.items())

    root = Path("/" + folders(above)) / "data"
    file = str(root / folders(pairs) / "a.parquet")
    assert partition_names([file], root) == set(pairs)
    found = partitions([file], root, [])
    folded = [name.casefold() for name in pairs]
    if len(set(folded)) == len(folded) and not any(name.startswith("__") for name in pairs):
        assert found.values[0] == pairs
