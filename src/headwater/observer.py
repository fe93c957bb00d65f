"""Observer: the one way out for progress and warnings; the library itself never prints."""

from __future__ import annotations

from collections.abc import Callable

from headwater.values import Value


class Progress(Value, frozen=True):
    """How far a long step is.

    Attributes:
        step: what is being done, e.g. `materialize weather@1.0.0`.
        done: units done so far.
        total: units in all, None where nobody knows.
        unit: what is counted, e.g. `rows`.
        finished: whether the step has ended.
    """

    step: str
    done: int = 0
    total: int | None = None
    unit: str = "rows"
    finished: bool = False


Observer = Callable[[Progress], None]
"""Called from the thread that does the work; it must return quickly and never raise."""


def silent(progress: Progress) -> None:
    """The default observer: nothing is shown."""
