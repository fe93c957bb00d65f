"""The columns of a result: the spine's, then those that each view adds, as they were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from headwater.errors import UsageError
from headwater.offline.base import HistoryRequest
from headwater.offline.join.columns import ViewColumns, view_columns
from headwater.offline.join.windowed import WindowColumns
from headwater.planning.resolved import FULL_NAMES


@dataclass(frozen=True)
class OutputSchema:
    """The columns of a result.

    Attributes:
        spine: the spine's own columns.
        views: what each view of the request adds.
        added: the names of the added columns, in order: each value, its status behind it, a view's event time behind
            the last of its columns.
        whole: all columns.
    """

    spine: pa.Schema
    views: Sequence[ViewColumns]
    added: Sequence[str]
    whole: pa.Schema

    @staticmethod
    def of(request: HistoryRequest, spine: pa.Schema) -> OutputSchema:
        """The columns that a request asks for, beside those of its spine.

        Raises:
            UsageError: two columns of one name.
        """
        views = [
            view_columns(ViewColumns if view.view.windows is None else WindowColumns, view.view, i, request)
            for i, view in enumerate(request.views)
        ]
        fields = {f.name: f for columns in views for f in columns.fields}
        taken = set(spine.names)
        for name in fields:
            if name in taken:
                raise UsageError(
                    f"{name!r} would appear twice in the result: the spine has a column of that name; "
                    f"{FULL_NAMES} or rename() the feature"
                )
        added = _added(request, views)
        return OutputSchema(spine, views, added, pa.schema([*spine, *(fields[name] for name in added)]))

    @property
    def has_case_twins(self) -> bool:
        """Whether two names differ in case alone."""
        return len({name.casefold() for name in self.whole.names}) < len(self.whole)

    def batch(self, spine: pa.RecordBatch, added: Mapping[str, pa.Array]) -> pa.RecordBatch:
        """Rows of the result.

        Args:
            spine: the spine's own columns of these rows.
            added: the others by name.
        """
        return pa.RecordBatch.from_arrays([*spine.columns, *(added[name] for name in self.added)], schema=self.whole)


def _added(request: HistoryRequest, views: Sequence[ViewColumns]) -> list[str]:
    last = {c.view: c.name for c in request.columns}
    names = []
    for output in request.columns:
        names.append(output.name)
        if "status" in request.include:
            names.append(f"{output.name}__status")
        if "event_time" in request.include and last[output.view] == output.name:
            names.append(views[output.view].event_time)
    return names
