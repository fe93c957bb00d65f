"""Watermark: how far a view version is materialized, in time and in the offline log."""

from __future__ import annotations

from typing import ClassVar

from headwater.clock import MIN_MICROS
from headwater.values import PartlyCompared


class Watermark(PartlyCompared, frozen=True):
    """How far a version is materialized; two are equal where they are equally far.

    Attributes:
        end: every row known at or before this instant (microseconds, UTC) is online.
        position: every row of the offline log up to this position was looked at.
        token: of the store's epoch in which it was written; empty where an earlier release wrote it.
        files: the number under which the registry's database has the files that were read; 0: none.
    """

    end: int = MIN_MICROS
    position: int = 0
    token: bytes = b""
    files: int = 0
    not_compared: ClassVar[tuple[str, ...]] = ("token", "files")

    def reaches(self, other: Watermark) -> bool:
        """Whether both parts are as far as the other's."""
        return self.end >= other.end and self.position >= other.position
