"""The hash of `planning.buckets` as an engine computes it of keys in the query's form."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from headwater.offline.trees import BIGINT, Tree, number
from headwater.offline.words import Words
from headwater.planning.buckets import FACTOR, PRIME, Bucket
from headwater.types import DType

_INTEGERS = ("int32", "int64", "timestamp")
"""Dtypes that the query holds as integers."""


def is_cheap(dtypes: Sequence[DType]) -> bool:
    """Whether the hash of such keys costs next to nothing: it is arithmetic alone."""
    return all(dtype.name in _INTEGERS for dtype in dtypes)


def in_bucket(words: Words, keys: Sequence[Tree], dtypes: Sequence[DType], bucket: Bucket) -> Tree:
    """The condition that a row's keys are in a bucket.

    Args:
        words: the engine's.
        keys: the keys in the query's form, in order of name.
        dtypes: of the keys.
        bucket: the bucket.
    """
    h: Tree = number(0)
    for i, (key, dtype) in enumerate(zip(keys, dtypes, strict=True)):
        value = key.copy() if dtype.name in _INTEGERS else words.key_integer(key.copy(), dtype)
        m = _remainder(exp.Coalesce(this=exp.cast(value, BIGINT), expressions=[number(0)]))
        h = (m if i == 0 else (h + m) % number(PRIME)) * number(FACTOR) % number(PRIME)
    return (h % number(bucket.count)).eq(number(bucket.index))


def _remainder(value: Tree) -> Tree:
    """The remainder by P, which is not negative."""
    return (value % number(PRIME) + number(PRIME)) % number(PRIME)
