"""The digest of distinct counts, with the vectors that the docs give."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.planning.windows.digest import (
    digest,
    digested_bytes,
    digests_of_bytes,
    digests_of_words,
    leading_zeros,
    xxh64,
)

VECTORS = {
    "": 0xEF46DB3751D8E999,
    "a": 0xD24EC4F1A98C6E5B,
    "abc": 0x44BC2CF5AD770999,
    "Nobody inspects the spammish repetition": 0xFBCEA83C8A378BF1,
}
"""Of the algorithm's own tests."""


@pytest.mark.parametrize("text", VECTORS)
def test_the_digest_of_text_is_xxh64_of_its_bytes(text):
    assert digest(text) == xxh64(text.encode()) == digest(text.encode()) == VECTORS[text]


def test_numbers_are_eight_bytes():
    assert digested_bytes(1) == bytes([1, 0, 0, 0, 0, 0, 0, 0])
    assert digested_bytes(-1) == b"\xff" * 8
    assert digested_bytes(-0.0) == digested_bytes(0.0) == bytes(8)
    assert digested_bytes(float("nan")) == digested_bytes(-float("nan")) == bytes.fromhex("000000000000f87f")
    # what is stored must stay what it is
    assert [digest(value) for value in (0, 1, -1, 1.5)] == VALUES


VALUES = [0x34C96ACDCADB1BBB, 0x9F29CB17A2A49995, 0x85D136ADB773C6C9, 0x49F7B96B6B5CCAF9]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), st.lists(st.floats(), min_size=1))
def test_whole_columns_have_the_digests_of_their_values(integers, floats):
    assert digests_of_words(np.array(integers, np.int64)).tolist() == [digest(value) for value in integers]
    assert digests_of_words(np.array(floats, np.float64)).tolist() == [digest(value) for value in floats]


def test_leading_zeros():
    assert [leading_zeros(number) for number in (0, 1, 2**63, 2**64 - 1, 2**43)] == [64, 63, 0, 0, 20]


@given(st.lists(st.binary(max_size=70), min_size=1))
def test_many_byte_strings_have_the_digests_of_each(texts):
    offsets = np.cumsum([0, *map(len, texts)])
    data = np.frombuffer(b"".join(texts), np.uint8)
    assert digests_of_bytes(offsets, data).tolist() == [xxh64(text) for text in texts]
