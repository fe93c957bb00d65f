"""Rows by part: each part gives the rows that were added to it, whatever their values, in memory and from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.offline.index import pieces
from headwater.offline.index.pieces import Pieces
from headwater.testing import rounds

SOME = settings(max_examples=rounds(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NEAR = st.integers(-5, 5)
NUMBER = st.one_of(
    NEAR,
    *(st.tuples(NEAR, st.just(1 << bits)).map(sum) for bits in (31, 40, 43, 48, 62)),
    st.integers(-(2**63), 2**63 - 1),
)


@SOME
@given(data=st.data(), held=st.sampled_from([0, 300, 10**6]), at_once=st.integers(1, 30), parts=st.sampled_from([1, 4]))
def test_a_part_gives_the_rows_that_were_added_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject, held: int, at_once: int, parts: int
) -> None:
    monkeypatch.setattr(pieces, "_DEALT", data.draw(st.integers(1, 20)))
    values = data.draw(st.sampled_from([NEAR, NUMBER]))
    rows = st.lists(st.tuples(values, values, values, values, st.integers(0, parts - 1)), min_size=1, max_size=12)
    added = data.draw(st.lists(rows, max_size=6))
    with Pieces(parts, tmp_path, held) as all_rows:
        for some in added:
            columns = [np.array(column, np.int64) for column in zip(*some, strict=True)]
            all_rows.add(columns[:4], columns[4])
        all_rows.deal()
        for part in range(parts):
            expected = [row[:4] for some in added for row in some if row[4] == part]
            assert all_rows.counts[part] == len(expected)
            for _ in range(2):  # they are read as often as wanted
                found = list(all_rows.take(part, at_once))
                assert [row for rows in found for row in zip(*rows.tolist(), strict=True)] == expected
            if expected:
                assert list(zip(*all_rows.all_of(part).tolist(), strict=True)) == expected
        assert all_rows.held <= held
    assert list(tmp_path.iterdir()) == []


def test_rows_take_sixteen_bytes_where_they_fit(tmp_path: Path) -> None:
    chance, count = np.random.default_rng(1), 1_000
    event = chance.integers(1_700_000_000_000_000, 1_800_000_000_000_000, count)
    columns = [chance.integers(0, 10**6, count), event, event + chance.integers(0, 10**9, count), np.arange(count)]
    for first, size in ((columns[0], 16), (chance.integers(-(2**62), 2**62, count), 32)):
        with Pieces(2, tmp_path, 10**6) as rows:
            rows.add([first, *columns[1:]], np.zeros(count, np.int64))
            rows.deal()
            assert rows.held == size * count


def test_a_temporary_file_that_ends_early_is_an_error() -> None:
    def nothing(_: Any) -> int:
        return 0

    with pytest.raises(OSError, match="8 bytes early"):
        pieces._all_of(nothing, np.zeros(1, np.int64))
