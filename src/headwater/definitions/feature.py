"""Feature: one named, typed value of a view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from headwater.clock import parse_duration
from headwater.definitions.coerce import as_dict
from headwater.definitions.defaults import canonical
from headwater.definitions.place import calling_place
from headwater.types import DType, FeatureKind


@dataclass(frozen=True)
class Feature:
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
    tags: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = field(default=(), init=False, compare=False, repr=False)
    place: str = field(default_factory=calling_place, compare=False, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        problems: list[str] = []
        if self.kind is None and isinstance(self.dtype, DType):
            object.__setattr__(self, "kind", FeatureKind.of(self.dtype))
        elif self.kind is not None:
            try:
                object.__setattr__(self, "kind", FeatureKind(self.kind))
            except ValueError:
                problems.append(f"kind {self.kind!r} is not one of {', '.join(FeatureKind)}")
                object.__setattr__(self, "kind", None)
        if self.freshness_sla is not None:
            try:
                object.__setattr__(self, "freshness_sla", parse_duration(self.freshness_sla))
            except ValueError as bad:
                problems.append(f"freshness_sla: {bad}")
                object.__setattr__(self, "freshness_sla", None)
        if isinstance(self.dtype, DType) and self.dtype.accepts(self.default):
            object.__setattr__(self, "default", canonical(self.dtype, self.default))
        object.__setattr__(self, "tags", as_dict(self.tags, "tags", problems))
        object.__setattr__(self, "problems", tuple(problems))

    def __hash__(self) -> int:
        return hash((self.name, self.dtype, self.column))

    @property
    def source_column(self) -> str:
        """The source's column that holds the value."""
        return self.column or self.name
