"""Cases of several parameters: a share of them in `make test`, all of them in `make test-deep`."""

from collections.abc import Iterable
from typing import Any

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
