"""Feature: one named, typed value of a view."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
from msgspec.structs import force_setattr

from headwater.clock import parse_duration
from headwater.definitions.coerce import as_dict
from headwater.definitions.defaults import canonical
from headwater.definitions.place import Placed
from headwater.types import DType, FeatureKind


class Feature(Placed, frozen=True):
    """One feature of a view.

    Attributes:
        name: the feature's name, unique within its view.
        dtype: `hw.Float64`, …; values of the source are widened to it if nothing is lost.
        column: the source's column, if it has another name.
        description: text for readers of the catalog.
        default: the value that replaces an absent one (no row, expired, deleted, not yet known); never a NULL.
        kind: numerical, categorical or embedding; derived from the dtype by default.
        freshness_sla: the age at which a value becomes stale, a duration such as `"1h"` or a timedelta; the view's by
            default.
        owner: who is responsible for it; the view's owner by default.
        tags: free labels, text → text.
    """

    name: str
    dtype: DType
    column: str | None = None
    description: str = ""
    default: Any = None
    kind: FeatureKind | str | None = None
    freshness_sla: timedelta | str | None = None
    owner: str = ""
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        problems: list[str] = []
        if self.kind is None and isinstance(self.dtype, DType):
            force_setattr(self, "kind", FeatureKind.of(self.dtype))
        elif self.kind is not None:
            try:
                force_setattr(self, "kind", FeatureKind(self.kind))
            except ValueError:
                problems.append(f"kind {self.kind!r} is not one of {', '.join(FeatureKind)}")
                force_setattr(self, "kind", None)
        if self.freshness_sla is not None:
            try:
                force_setattr(self, "freshness_sla", parse_duration(self.freshness_sla))
            except ValueError as bad:
                problems.append(f"freshness_sla: {bad}")
                force_setattr(self, "freshness_sla", None)
        if isinstance(self.dtype, DType) and self.dtype.accepts(self.default):
            force_setattr(self, "default", canonical(self.dtype, self.default))
        force_setattr(self, "tags", as_dict(self.tags, "tags", problems))
        force_setattr(self, "problems", tuple(problems))

    def __hash__(self) -> int:
        return hash((self.name, self.dtype, self.column))

    @property
    def source_column(self) -> str:
        """The source's column that holds the value."""
        return self.column or self.name
