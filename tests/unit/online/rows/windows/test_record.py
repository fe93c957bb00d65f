"""The fill record as it is stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import FormatError
from headwater.online.rows.values import Damaged
from headwater.online.rows.windows.record import FillBase, FillRecord, SourceThrough, decode_record, encode_record

NUMBERS, TIMES = st.integers(0, 2**63 - 1), st.integers(-(2**63), 2**63 - 1)
THROUGH = st.builds(SourceThrough, NUMBERS, TIMES)
BASES = st.none() | st.builds(FillBase, NUMBERS, TIMES, THROUGH)
RECORDS = st.builds(FillRecord, NUMBERS, NUMBERS, NUMBERS, TIMES, THROUGH, BASES)


@given(RECORDS)
def test_what_is_written_is_read(record):
    assert decode_record(encode_record(record)) == record


def test_what_is_stored_stays_readable():
    record = FillRecord(1, 2, 3, -4, SourceThrough(5, 6))
    stored = "01" + "".join(f"{n:016x}" for n in (1, 2, 3, 2**64 - 4, 5, 6))
    assert encode_record(record).hex() == stored
    assert decode_record(bytes.fromhex(stored)) == record
    stored += "".join(f"{n:016x}" for n in (7, 8, 9, 10))
    under_way = record._replace(base=FillBase(7, 8, SourceThrough(9, 10)))
    assert encode_record(under_way).hex() == stored
    assert decode_record(bytes.fromhex(stored)) == under_way


@given(RECORDS, st.integers(0, 80))
def test_what_is_not_whole_is_damaged(record, size):
    cut = encode_record(record)[:size]
    if len(cut) in (49, len(encode_record(record))):
        return
    with pytest.raises(Damaged):
        decode_record(cut)


def test_a_newer_one_is_not_guessed_at():
    with pytest.raises(FormatError, match="newer headwater"):
        decode_record(b"\x02" + bytes(60))
