"""What a read says of values past their freshness SLA: which those are, and whether they are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headwater.online.reading.view_read import AnsweredView, ViewAnswered

_NOWHERE: NDArray[np.intp] = np.empty(0, np.intp)


class ReadSLA(NamedTuple):
    """The SLAs of one read.

    Attributes:
        max_age: of all its features, microseconds; None: each has its own.
        drop: whether values past theirs are not given.
    """

    max_age: int | None
    drop: bool

    def of(self, view: ViewAnswered, feature: int) -> int | None:
        """The SLA of a feature, microseconds; None: it has none."""
        return self.max_age if self.max_age is not None else view.slas[feature]

    def strictest(self, view: ViewAnswered) -> int | None:
        """The strictest among the features of a view."""
        return self.max_age if self.max_age is not None else view.sla

    def stale_places(self, read: AnsweredView, feature: int) -> NDArray[np.intp]:
        """Places of rows that are there and older than a feature's SLA."""
        sla = self.of(read.view, feature)
        return read.rows.older_places(sla) if sla is not None and read.view.timed else _NOWHERE


FEATURES_OWN = ReadSLA(None, drop=False)
"""Each feature has its own, and all values are given."""
