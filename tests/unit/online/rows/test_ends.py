"""Stored rows that end: few and many, of fixed and of varying width, against the rule one row at a time."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.names import OPEN, VALID_TO
from headwater.definitions.sources import PushSource
from headwater.definitions.view import FeatureView
from headwater.online.rows.codec import encode_batch
from headwater.online.rows.decoded import DecodedRows
from headwater.online.rows.row_format import RowFormat
from headwater.planning.layout import RowLayout
from headwater.types import Float64, Int64, String

AHEAD = 3
_TIMES = st.integers(0, 12)
ROWS = st.lists(st.none() | st.tuples(_TIMES, _TIMES, st.none() | _TIMES), min_size=1, max_size=6)


@settings(deadline=None)
@pytest.mark.parametrize("varying", [False, True])
@given(rows=ROWS, now=_TIMES, ttl=st.none() | st.integers(1, 6), copies=st.sampled_from([1, 7]), nulls=st.booleans())
def test_a_row_has_ended_at_the_instant_that_its_answer_holds_for(varying, rows, now, ttl, copies, nulls):
    dtypes = [Float64, Int64, String] if varying else [Float64, Int64]
    features = [Feature(name, dtype) for name, dtype in zip("cab", dtypes, strict=False)]
    source = PushSource(valid_from="f", valid_to="t")
    view = FeatureView("v", entity=Entity("k", {"k": Int64}), source=source, features=features)
    layout = RowLayout.of(view)
    there = [row for row in rows if row is not None]
    values = {"c": [None if nulls else 1.5] * len(there), "a": [7] * len(there), "b": ["x"] * len(there)}
    columns = {f.name: pa.array(values[f.name], f.dtype.arrow) for f in features}
    columns[VALID_TO] = pa.array([OPEN if ends is None else ends for _, _, ends in there], pa.int64())
    for name, place in (("__event", 0), ("__created", 1)):
        columns[name] = pa.array(np.array([row[place] for row in there], np.int64))
    columns |= {"__origin": pa.array([1] * len(there), pa.int8()), "__position": pa.array([1] * len(there), pa.int64())}
    packed = iter(encode_batch(layout, pa.RecordBatch.from_pydict(columns)))
    stored = [None if row is None else next(packed) for row in rows] * copies
    decoded = DecodedRows(RowFormat(layout, ["a", "c"]), stored, now, ttl, AHEAD)
    expired, absent, not_known = [], [], []
    for i, row in enumerate(rows * copies):
        if row is None:
            absent.append(i)
            continue
        event, created, ends = row
        at = max(now, event, created)
        if at > now + AHEAD:
            not_known.append(i)
        elif (ttl is not None and event < at - ttl) or (ends is not None and ends <= at):
            expired.append(i)
    assert (sorted(decoded.expired), decoded.absent, sorted(decoded.not_known)) == (expired, absent, not_known)
    gone = decoded.gone
    shown = decoded.columns()
    assert [shown[0][i] for i in range(len(stored)) if i not in gone] == [7] * (len(stored) - len(gone))
    assert RowFormat(layout, ["a"]).ends is not None
