"""Prepared readers over HTTP: features that are described once, and read again and again."""

from __future__ import annotations

from collections.abc import Mapping

from headwater import forks
from headwater.client.flows import OTHER_COLUMNS, Flows
from headwater.client.reading import Wanted
from headwater.errors import ChangeRefused
from headwater.types import ConsistencyLevel, DType
from headwater.wire.results import ReceivedRequest


class Prepared(forks.OfOneProcess):
    """What a prepared reader of either client knows.

    Args:
        flows: the client's.
        wanted: what its reads ask for.
        described: what describes them.
        consistency: the level of reads that name none.
    """

    instead = "make one in each process: client.prepare(features)"

    def __init__(
        self,
        flows: Flows,
        wanted: Wanted,
        described: ReceivedRequest,
        consistency: ConsistencyLevel | str | None,
    ) -> None:
        self._flows, self._wanted, self._first, self._level = flows, wanted, described, consistency

    @property
    def _described(self) -> ReceivedRequest:
        """What describes the newest answer."""
        newest = self._flows.known(self._wanted)
        return newest if newest is not None and newest.same_columns(self._first) else self._first

    def _follow(self, found: ReceivedRequest) -> None:
        if not found.same_columns(self._first):
            raise ChangeRefused(OTHER_COLUMNS)

    @property
    def join_keys(self) -> Mapping[str, DType]:
        """Name → dtype of each key that `entities` must have."""
        return self._described.asked.keys

    @property
    def request_fields(self) -> Mapping[str, DType]:
        """Name → dtype of each value that `request` must have; none where no feature is computed on demand."""
        return self._described.asked.fields

    @property
    def versions(self) -> Mapping[str, str]:
        """View label → version, as of the last answer."""
        return {view.label: view.version for view in self._described.views}

    def __repr__(self) -> str:
        columns = ", ".join(column.name for column in self._described.asked.columns)
        versions = ", ".join(f"{label} {version}" for label, version in self.versions.items())
        return f"<{type(self).__name__} {columns} by {', '.join(self.join_keys) or 'no key'}: {versions}>"
