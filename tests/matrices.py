"""Cases of several parameters: a share of them in `make test`, all of them in `make test-deep`."""

import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
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


def left_out(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """The cases that are in no share of their test's, by its mark `one_in(n)`.

    Raises:
        AssertionError: they are all cases of a test, or none, though it has n and more.
    """
    cases = defaultdict(list)
    for item in items:
        if item.get_closest_marker("one_in") is not None and hasattr(item, "callspec"):
            cases[item.nodeid.partition("[")[0]].append(item)
    found = set()
    for name, all_ in cases.items():
        out = {item for item in all_ if not in_share(item)}
        few = len(all_) < all_[0].get_closest_marker("one_in").args[0]
        assert few or 0 < len(out) < len(all_), f"{name}: {len(out)} of {len(all_)} cases are left out"
        found |= out
    return found


def in_share(item: pytest.Item) -> bool:
    """Whether a test is among those that run in `make test`, by its mark `one_in(n)`; a test without it is.

    Of a function's cases one in n is: of two parameters each value meets one in n values of the other, in turn. With
    which case the turn begins depends on the function's name, or is said by `turn=`, so that of the tests of a file
    that share a parameter, such as a store, each value has its part.
    """
    mark, call = item.get_closest_marker("one_in"), getattr(item, "callspec", None)
    if mark is None or call is None:
        return True
    # what pytest calls the index of a direct parameter is that of the case
    places = dict(call.indices)
    for given in item.iter_markers("parametrize"):
        names = given.args[0] if not isinstance(given.args[0], str) else [n.strip() for n in given.args[0].split(",")]
        for name in names:
            places.pop(name, None)
        # of one parameter with several names all together count
        places[names[0]] = _place(given.args[1], [call.params[name] for name in names])
    turn = mark.kwargs.get("turn", zlib.crc32(getattr(item, "originalname", item.name).encode()))
    return bool((sum(places.values()) + turn) % mark.args[0] == 0)


def _place(cases: Sequence[Any], values: list[Any]) -> int:
    """Where a case is among those that `parametrize` was given."""
    for i, case in enumerate(cases):
        given = case.values if hasattr(case, "values") and hasattr(case, "marks") else case
        if all(a is b for a, b in zip(given if len(values) > 1 or given is not case else [case], values, strict=True)):
            return i
    raise LookupError(f"{values} is none of the cases; give `parametrize` a list or a tuple")
