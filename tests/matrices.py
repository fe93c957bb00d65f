"""Cases of several parameters: a share of them in `make test`, all of them in `make test-deep`."""

import zlib
from collections.abc import Iterable
from typing import Any

import pytest

from headwater.testing import SCALE


def share(cases: Iterable[tuple[Any, ...]], one_in: int) -> list[tuple[Any, ...]]:
    """One in so many of the cases of a product, chosen so that each value of each parameter is in some of them.

    Of two parameters each value meets one in so many values of the other, in turn, as in a Latin square.
    """
    every = list(cases)
    if SCALE > 1:
        return every
    values: list[list[Any]] = [[] for _ in every[0]]
    kept = []
    for case in every:
        for known, value in zip(values, case, strict=True):
            if not any(value is one for one in known):
                known.append(value)
        numbers = (
            next(i for i, one in enumerate(known) if one is value) for known, value in zip(values, case, strict=True)
        )
        if sum(numbers) % one_in == 0:
            kept.append(case)
    return kept


def in_share(item: pytest.Item) -> bool:
    """Whether a test is among those that run in `make test`, by its mark `one_in(n)`; a test without it is.

    Of a function's cases one in n is: of two parameters each value meets one in n values of the other, in turn. With
    which case the turn begins depends on the function's name, or is said by `turn=`, so that of the tests of a file
    that share a parameter, such as a store, each value has its part.
    """
    mark, call = item.get_closest_marker("one_in"), getattr(item, "callspec", None)
    if mark is None or call is None:
        return True
    indices = dict(call.indices)
    for given in item.iter_markers("parametrize"):
        names = given.args[0].split(",") if isinstance(given.args[0], str) else given.args[0]
        for name in names[1:]:  # of one parameter with several names the first counts
            indices.pop(name.strip(), None)
    turn = mark.kwargs.get("turn", zlib.crc32(getattr(item, "originalname", item.name).encode()))
    return bool((sum(indices.values()) + turn) % mark.args[0] == 0)
