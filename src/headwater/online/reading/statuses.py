"""The statuses of a read's values, as places in `types.STATUSES`; worked out when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headwater.forks import lazy
from headwater.types import STATUSES, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headwater.online.reading.read_sla import ReadSLA
    from headwater.online.reading.view_read import AnsweredView, ReadColumn, ReadRequest

_CODE = {status: code for code, status in enumerate(STATUSES)}


class StatusGroup(NamedTuple):
    """Columns of one view that have the same statuses.

    Attributes:
        view: its place.
        codes: a place in `STATUSES` for each row of the answer; not to be changed.
        columns: their places.
    """

    view: int
    codes: NDArray[np.uint8]
    columns: Sequence[int]


class ReadStatuses:
    """The statuses of one read.

    Args:
        asked: what was asked for.
        reads: what was read of each view.
        size: rows of the answer.
        sla: which values are stale.
        received: the statuses of each column where a server has worked them out; else None.
    """

    def __init__(
        self,
        asked: ReadRequest,
        reads: Sequence[AnsweredView],
        size: int,
        sla: ReadSLA,
        received: Mapping[str, NDArray[np.uint8]] | None,
    ) -> None:
        self._asked, self._reads, self._size, self._sla = asked, reads, size, sla
        self._received = received
        self._groups: list[StatusGroup] | None = None
        self._all_present: bool | None = None

    @property
    def all_present(self) -> bool:
        """Whether all values are known to be PRESENT; where keys are repeated it is not known."""
        if self._all_present is None:
            self._all_present = self._received is None and all(map(self._is_plain, self._reads))
        return self._all_present

    def groups(self) -> list[StatusGroup]:
        """The statuses of the feature columns, each in one group; of nearly all reads there is one for each view."""
        if self._groups is None:
            self._groups = []
            for view, (read, columns) in enumerate(zip(self._reads, self._asked.by_view, strict=True)):
                if self._received is None and self._is_plain(read):
                    self._groups.append(StatusGroup(view, _all_present(self._size), columns))
                else:
                    self._groups += self._make_groups(view, columns)
        return self._groups

    @lazy
    def computed(self) -> dict[str, NDArray[np.uint8]]:
        """Column → its statuses by distinct key: filled as they are asked for, and by who computes columns."""
        return {}

    def _is_plain(self, read: AnsweredView) -> bool:
        """Whether all values of a view are PRESENT."""
        rows, view = read.rows, read.view
        if rows.missing or rows.has_nulls or rows.damaged or rows.not_known:
            return False
        sla = self._sla.strictest(view)
        return sla is None or not view.timed or not rows.older_places(sla).size

    def _make_groups(self, view: int, columns: Sequence[int]) -> list[StatusGroup]:
        inverse, asked = self._reads[view].inverse, self._asked.columns
        together: dict[int, tuple[NDArray[np.uint8], list[int]]] = {}
        for place in columns:
            codes = self._codes(asked[place])
            together.setdefault(id(codes), (codes, []))[1].append(place)
        return [
            StatusGroup(view, codes if inverse is None else codes[inverse], places)
            for codes, places in together.values()
        ]

    def _codes(self, column: ReadColumn) -> NDArray[np.uint8]:
        """The statuses of a column by distinct key; not to be changed."""
        if self._received is not None:
            return self._received[column.name]
        codes = self.computed.get(column.name)
        if codes is None:
            codes = self.computed[column.name] = self._make_codes(column)
        return codes

    def _make_codes(self, column: ReadColumn) -> NDArray[np.uint8]:
        read = self._reads[column.view]
        sla = self._sla.of(read.view, column.feature)
        codes = self._aged.get((column.view, sla))
        if codes is None:
            codes = self._of_rows[column.view]
            stale = self._sla.stale_places(read, column.feature)
            if stale.size:
                codes = codes.copy()
                codes[stale] = _CODE[Status.STALE]
            # of nearly all features of a view: one array for them
            self._aged[column.view, sla] = codes
        nulls = read.rows.null_statuses(column.feature)
        if nulls is not None:
            codes = codes.copy()
            codes[(self._of_rows[column.view] == _CODE[Status.PRESENT]) & nulls] = _CODE[Status.NULL]
        left_out = read.rows.left_out.get(column.feature)
        if left_out:
            codes = codes.copy()
            gone = read.rows.gone
            codes[[place for place in left_out if place not in gone]] = _CODE[Status.UNAVAILABLE]
        return codes

    @lazy
    def _aged(self) -> dict[tuple[int, int | None], NDArray[np.uint8]]:
        """(view, SLA) → the statuses of its rows, NULLs aside; filled as they are asked for."""
        return {}

    @lazy
    def _of_rows(self) -> list[NDArray[np.uint8]]:
        """The statuses of each view's rows, those of single values and stale ones aside."""
        out = []
        for read in self._reads:
            codes = _all_present(read.rows.size)
            if read.rows.gone:
                codes = codes.copy()
                codes[read.rows.expired] = _CODE[Status.EXPIRED]
                codes[read.rows.absent] = _CODE[Status.NOT_FOUND]
                codes[list(read.rows.damaged)] = _CODE[Status.UNAVAILABLE]
                codes[read.rows.not_known] = _CODE[Status.NOT_KNOWN]
            out.append(codes)
        return out


@lru_cache(64)
def _all_present(size: int) -> NDArray[np.uint8]:
    codes = np.full(size, _CODE[Status.PRESENT], np.uint8)
    codes.flags.writeable = False
    return codes
