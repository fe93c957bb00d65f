"""Summaries: what the catalog says of a version of a view or service, of a store and of a client behind a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pyarrow as pa

from headwater.definitions.aggregation import Aggregation
from headwater.definitions.feature import Feature
from headwater.definitions.window_words import in_words
from headwater.html_tables import html_table
from headwater.types import DType


@dataclass(frozen=True, kw_only=True)
class Summary(ABC):
    """What a version of a view and one of a service have in common.

    Attributes:
        name: of the view or service.
        version: `major.minor.patch`.
        live: whether it is the live version.
        versions: every version of the view or service, oldest first.
        join_keys: column of the spine or request → dtype, of each join key.
        owner: who is responsible for it.
        description: text for readers of the catalog.
        tags: free labels, text → text.
        request_fields: what a request must give beside the keys: field → dtype; nothing where no feature is computed on
            demand.
    """

    name: str
    version: str
    live: bool
    versions: tuple[str, ...]
    join_keys: dict[str, DType] = field(hash=False)
    owner: str
    description: str
    tags: Mapping[str, str] = field(hash=False)
    request_fields: Mapping[str, DType] = field(default_factory=dict, hash=False)

    @property
    @abstractmethod
    def columns(self) -> list[tuple[str, DType, str]]:
        """Name, dtype and a note of each feature, in order: its description, or the reference that it is."""

    @property
    def output_schema(self) -> pa.Schema:
        """The columns that reading it whole gives: keys, then features."""
        keys = [(name, dtype.arrow) for name, dtype in self.join_keys.items()]
        return pa.schema([*keys, *((name, dtype.arrow) for name, dtype, _ in self.columns)])

    def _repr_html_(self) -> str:
        caption = f"{self.name} {self.version}{', live' if self.live else ''}"
        rows = ((name, str(dtype), note) for name, dtype, note in self.columns)
        return html_table(("feature", "dtype", ""), rows, caption=caption)


@dataclass(frozen=True, kw_only=True)
class ViewSummary(Summary):
    """One version of a view, without its source.

    Attributes:
        entities: names of its entities, in order; none of a global view.
        features: its features, in order.
        source_kind: `parquet`, `csv`, `json`, `sql`, `table` or `push`; `on_demand` where a function computes it.
        ttl: the age beyond which a value is not used at all; None: no limit.
        aggregations: of a window view what each of its features computes, in order; none of a plain view.
        freshness_sla: the age at which a value becomes stale; None: never.
    """

    entities: tuple[str, ...]
    features: tuple[Feature, ...]
    source_kind: str
    ttl: timedelta | None
    freshness_sla: timedelta | None
    aggregations: tuple[Aggregation, ...] = ()

    @property
    def columns(self) -> list[tuple[str, DType, str]]:
        """Name, dtype and description of each feature, in order; of a window view also what it computes."""
        words = {made.feature_name: in_words(made) for made in self.aggregations}
        notes = ("; ".join(filter(None, (words.get(f.name), f.description))) for f in self.features)
        return [(f.name, f.dtype, note) for f, note in zip(self.features, notes, strict=True)]


@dataclass(frozen=True, kw_only=True)
class ServiceSummary(Summary):
    """One version of a service.

    Attributes:
        selected: column, dtype and reference (`view@version:feature`) of each feature that it reads, in order.
    """

    selected: tuple[tuple[str, DType, str], ...]

    @property
    def features(self) -> tuple[str, ...]:
        """What it reads, as references, in order."""
        return tuple(reference for _, _, reference in self.selected)

    @property
    def columns(self) -> list[tuple[str, DType, str]]:
        """Name, dtype and reference of each feature, in order."""
        return list(self.selected)


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """One version of a logged model.

    Attributes:
        name: the model's.
        version: numbered from 1.
        service: `name@version` of the service whose features it takes.
        training_set: `name@version` of what it was trained on; None: not known.
        logged_at: when it was logged (UTC).
    """

    name: str
    version: int
    service: str
    training_set: str | None
    logged_at: datetime
