"""Digests of event ids, by column and one by one."""

from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.planning.windows.event_ids import event_digests
from headwater.planning.windows.events import event_digest
from headwater.planning.windows.values import stored_form
from headwater.types import Date, Timestamp

IDS = {
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "int8": (pa.int8(), st.integers(-(2**7), 2**7 - 1)),
    "float64": (pa.float64(), st.floats() | st.integers(-9, 9).map(float)),
    "text": (pa.string(), st.text(max_size=20)),
    "large text": (pa.large_string(), st.text(max_size=20)),
    "bytes": (pa.binary(), st.binary(max_size=40)),
    "bool": (pa.bool_(), st.booleans()),
}


@pytest.mark.parametrize("kind", IDS)
@given(data=st.data())
def test_a_column_has_the_digest_of_each_id(kind, data):
    arrow, values = IDS[kind]
    ids = data.draw(st.lists(st.none() | values, max_size=20))
    events = data.draw(st.lists(st.integers(-(2**60), 2**60), min_size=len(ids), max_size=len(ids)))
    found, present = event_digests(pa.array([None, *ids], arrow).slice(1), np.array(events, np.int64))
    assert present.tolist() == [value is not None for value in ids]
    for value, event, number in zip(ids, events, found.tolist(), strict=True):
        if value is not None:
            assert number == event_digest(int(value) if isinstance(value, bool) else value, event)


def test_one_id_is_the_same_in_every_type():
    events = np.array([5, 6], np.int64)
    expected = event_digests(pa.array([7, 8]), events)[0].tolist()
    for arrow in (pa.int8(), pa.uint64(), pa.float32(), pa.float64()):
        assert event_digests(pa.array([7, 8], arrow), events)[0].tolist() == expected
    text = event_digests(pa.array(["a", "b"]), events)[0].tolist()
    assert event_digests(pa.array(["a", "b"]).dictionary_encode(), events)[0].tolist() == text
    assert event_digests(pa.array([Decimal("1.50")]), events[:1])[0][0] == event_digest("1.50", 5)


def test_times_are_microseconds_and_dates_days():
    when = datetime(2024, 1, 1, 1, tzinfo=UTC)
    events = np.array([5], np.int64)
    found = event_digests(pa.array([when], pa.timestamp("ms", "UTC")), events)[0][0]
    assert found == event_digest(stored_form(Timestamp, when), 5)
    assert event_digests(pa.array([date(1969, 12, 31)]), events)[0][0] == event_digest(
        stored_form(Date, date(1969, 12, 31)), 5
    )
