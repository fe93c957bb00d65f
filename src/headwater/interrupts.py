"""Interrupts: Ctrl-C at any moment of a call leaves nothing begun behind.

An interrupt that comes while a block is entered or left leaves it to the garbage collector to end what was begun: a
transaction, say, for which everybody else waits meanwhile.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def behind(bad: BaseException | None, outer: BaseException | None) -> BaseException | None:
    """What interrupted the thread behind an error of what cleaned up after it; None where nothing did.

    Args:
        bad: the error.
        outer: what was being handled already as the work began.
    """
    return next((one for one in _chain(bad, outer) if not isinstance(one, Exception)), None)


def leaves_nothing(method: Callable[P, T]) -> Callable[P, T]:
    """A function that, interrupted, ends at once what was left to the garbage collector."""

    @wraps(method)
    def whole(*args: P.args, **options: P.kwargs) -> T:
        outer = sys.exception()
        try:
            return method(*args, **options)
        except Exception:
            raise
        except BaseException as bad:
            for one in _chain(bad, outer):
                traceback.clear_frames(one.__traceback__)
            raise

    return whole


def _chain(bad: BaseException | None, outer: BaseException | None) -> Iterator[BaseException]:
    seen = set[int]()
    while bad is not None and bad is not outer and id(bad) not in seen:
        seen.add(id(bad))
        yield bad
        bad = bad.__context__
