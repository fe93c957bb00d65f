"""Rows dealt into parts: each part gets its rows, in order, whatever was spilled and however parts are taken."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.offline.windows.dealt import PARTS, Dealt, groups_of_parts
from headwater.testing import rounds

_SCHEMA = pa.schema([("number", pa.int64()), ("some", pa.float64()), ("text", pa.string()), ("flag", pa.bool_())])


def _rows(numbers):
    columns = {
        "number": numbers,
        "some": [None if number % 3 == 0 else number / 2 for number in numbers],
        "text": [str(number) for number in numbers],
        "flag": [number % 2 == 0 for number in numbers],
    }
    return pa.table(columns, _SCHEMA)


@settings(max_examples=rounds(60), deadline=None)
@given(
    st.sampled_from([1, 5, PARTS]),
    st.lists(st.lists(st.integers(0, PARTS - 1), max_size=40), max_size=6),
    st.integers(1, 4_000),
    st.sampled_from([0, 1_000, 1 << 30]),
    st.booleans(),
)
def test_each_part_has_its_rows_in_order(parts, batches, most, budget, chunked):
    with TemporaryDirectory() as folder:
        dealt = Dealt(_SCHEMA, Path(folder), budget, parts)
        expected = {number: [] for number in range(parts)}
        first = 0
        for drawn in batches:
            part = np.array(drawn, np.int64) % parts
            rows = _rows(list(range(first, first + len(part))))
            some = pa.concat_tables([rows.slice(0, 3), rows.slice(3)]) if chunked else rows
            dealt.add(some, part)
            for number in part.tolist():
                expected[number].append(first)
                first += 1
        dealt.finish()
        for numbers in groups_of_parts([*dealt.bytes, *[0] * (PARTS - parts)], most):
            found = dealt.take(range(numbers.start, min(numbers.stop, parts))).to_pylist()
            for number in numbers:
                own = set(expected.get(number, []))
                assert [row for row in found if row["number"] in own] == _rows(expected.get(number, [])).to_pylist()
            assert len(found) == sum(len(expected.get(number, [])) for number in numbers)
        dealt.close()
        assert not list(Path(folder).iterdir())
