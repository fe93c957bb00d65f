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
    """One feature.

    Attributes:
        name: unique within its view.
        dtype: `hw.Float64`, …; values are widened to it where nothing is lost.
        column: the source's column, where it has another name.
        description: for people.
        default: fills a value that is absent (no row, expired, deleted, not yet known), never a NULL.
        kind: numerical, categorical or embedding; follows the dtype unless given.
        freshness_sla: how old the value may be before it is stale; the view's unless given.
        owner: who answers for it; the view's unless given.
        tags: free labels.
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
