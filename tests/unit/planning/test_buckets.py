"""Buckets of keys: the stated hash, as NumPy computes it."""

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest

from headwater.errors import UsageError
from headwater.planning.buckets import FACTOR, PRIME, Bucket, hashes, members

VECTORS = [
    (
        pa.array([0, 1, -1, 2**31, 2**63 - 1, -(2**63), None]),
        [0, 1103515245, 1043968402, 1103515245, 1103515245, 2087936804, 0],
    ),
    (pa.array(["", "JFK", "ä", None]), [2004205403, 792742448, 1877981335, 0]),
    (pa.array([b"", b"\x00\xff", None]), [2004205403, 834463130, 0]),
    (pa.array([False, True, None]), [0, 1103515245, 0]),
    (pa.array([date(1970, 1, 2), date(1969, 12, 31), None]), [1103515245, 1043968402, 0]),
    (pa.array([datetime(1970, 1, 1, 0, 0, 0, 1, UTC), None], pa.timestamp("us", "UTC")), [1103515245, 0]),
]
"""Keys of one column and their hashes, as docs/beyond-one-machine.md has them."""


@pytest.mark.parametrize(("keys", "expected"), VECTORS, ids=lambda value: str(getattr(value, "type", "")))
def test_the_hash_of_one_key(keys, expected):
    assert hashes([keys]).tolist() == expected
    assert hashes([keys.dictionary_encode()]).tolist() == expected
    assert hashes([pa.chunked_array([keys.slice(0, 1), keys.slice(1)])]).tolist() == expected


def test_the_hash_of_two_keys_is_that_of_one_after_the_other():
    first, second = pa.array([5, -7]), pa.array(["x", None])
    of_first = [int(n) for n in hashes([first])]
    wanted = [(h + m) % PRIME * FACTOR % PRIME for h, m in zip(of_first, [int("9dd4e46", 16), 0], strict=True)]
    assert hashes([first, second]).tolist() == wanted


@pytest.mark.parametrize("step", [1, 8, 1_000, 2**31 - 1, 2**31, 86_400_000_000])
@pytest.mark.parametrize("n", [2, 3, 8, 64])
def test_regular_keys_are_spread_evenly(step, n):
    keys = pa.array(np.arange(20_000) * step)
    counts = np.bincount(hashes([keys]) % n, minlength=n)
    if step == PRIME:  # the one step for which all keys have one remainder
        assert counts.max() == 20_000
    else:
        assert counts.max() <= 1.25 * 20_000 / n


@pytest.mark.parametrize(
    "given", [3, (0,), (0, 0), (2, 2), (-1, 2), (0.0, 2), (True, 2), ("0", "2"), (0, 2_000_000), (0, 1, 2)]
)
def test_what_is_no_bucket_is_refused(given):
    with pytest.raises(UsageError, match="0 <= i < n"):
        Bucket.of(given)


def test_a_pair_of_whole_numbers_is_a_bucket():
    assert Bucket.of((np.int64(1), 2)) == Bucket.of([1, 2]) == Bucket(1, 2)
    assert members([pa.array([0, 1, 2, 3])], Bucket(0, 1)).all()
