"""FeatureView: the features of one entity from one source, and selections of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

import msgspec
from msgspec.structs import force_setattr

from headwater.clock import parse_duration
from headwater.definitions.aggregation import Aggregation
from headwater.definitions.coerce import as_dict, as_tuple
from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.named_features import NamedFeatures
from headwater.definitions.names import VALID_TO
from headwater.definitions.source import Source
from headwater.errors import FeatureNotFound, brief, listing, nearest
from headwater.forks import lazy
from headwater.types import DType, Int64
from headwater.values import Value

_DURATIONS = ("ttl", "freshness_sla")


class FeatureView(NamedFeatures, frozen=True, kw_only=True):
    """Features of one entity from one source; (name, version) is immutable once applied.

    Attributes:
        name: the view's name, unique in the project.
        entity: an entity, a list of them, or `()` for global values.
        source: the source of the rows.
        features: the features, in the order in which results have them; or aggregations over the source's events, which
            make it a window view.
        version: `major.minor.patch`; None: `apply` numbers the view.
        join_key_map: join key → the source's column, where the names differ.
        columns: of a window view, the dtypes of the source's columns that its aggregations read; what is left out is
            taken from the source's schema when the view is applied.
        ttl: the age beyond which a value is not used at all, a duration such as `"6h"` or a timedelta; None or 0: no
            limit.
        freshness_sla: the age at which a value becomes stale, likewise; None: never.
        availability_sla: the share of reads, 0 to 1, that should find a value.
        owner: who is responsible for it; changed in place.
        description: text for readers of the catalog; changed in place.
        tags: free labels, text → text; changed in place.
    """

    entity: Entity | Iterable[Entity]
    source: Source
    features: Iterable[Feature | Aggregation]
    version: str | None = None
    join_key_map: Mapping[str, str] = msgspec.field(default_factory=dict)
    columns: Mapping[str, DType] = msgspec.field(default_factory=dict)
    ttl: timedelta | str | None = None
    freshness_sla: timedelta | str | None = None
    availability_sla: float | None = None
    owner: str = ""
    description: str = ""
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        problems: list[str] = []
        for name in _DURATIONS:
            value = getattr(self, name)
            if value is not None:
                try:
                    force_setattr(self, name, parse_duration(value))
                except ValueError as bad:
                    problems.append(f"{name}: {bad}")
                    force_setattr(self, name, None)
        entity = (self.entity,) if isinstance(self.entity, (Entity, str)) else as_tuple(self.entity, "entity", problems)
        force_setattr(self, "entity", entity)
        force_setattr(self, "features", as_tuple(self.features, "features", problems))
        force_setattr(self, "join_key_map", as_dict(self.join_key_map, "join_key_map", problems))
        force_setattr(self, "columns", as_dict(self.columns, "columns", problems))
        force_setattr(self, "tags", as_dict(self.tags, "tags", problems))
        force_setattr(self, "problems", tuple(problems))

    def __hash__(self) -> int:
        return hash((self.name, self.version))

    @property
    def entities(self) -> tuple[Entity, ...]:
        """The entities; empty for a global view."""
        return tuple(entity for entity in self.entity if isinstance(entity, Entity))  # type: ignore[union-attr]

    @property
    def join_keys(self) -> dict[str, DType]:
        """Name → dtype of every join key, in the order of the entities; empty for a global view."""
        return {key: dtype for entity in self.entities for key, dtype in entity.join_keys.items()}

    @lazy
    def feature_list(self) -> tuple[Feature, ...]:
        """The features, typed; of a window view one for each aggregation."""
        own = tuple(feature for feature in self.features if isinstance(feature, Feature))
        return (*own, *(made.as_feature(self.columns) for made in self.aggregations))

    @lazy
    def row_features(self) -> tuple[Feature, ...]:
        """What a row holds beside keys and times: the features, and when it ends where its source says that."""
        ends = getattr(self.source, "valid_to", None)
        return self.feature_list if ends is None else (*self.feature_list, Feature(VALID_TO, Int64, column=ends))

    def row_feature(self, name: str) -> Feature:
        """One of `row_features`.

        Args:
            name: its name.

        Returns:
            The feature.
        """
        return self.row_features[-1] if name == VALID_TO else self.feature(name)

    @lazy
    def aggregations(self) -> tuple[Aggregation, ...]:
        """The aggregations of a window view, one for each value of an `over`; empty for a plain view."""
        given = (feature for feature in self.features if isinstance(feature, Aggregation))
        return tuple(made for aggregation in given for made in aggregation.expanded())

    @lazy
    def aggregations_by_name(self) -> Mapping[str, Aggregation]:
        """Feature → the aggregation that it is, the first of each name."""
        return {made.feature_name: made for made in reversed(self.aggregations) if isinstance(made.feature_name, str)}

    @lazy
    def columns_read(self) -> tuple[str, ...]:
        """The columns of a source's row that its features or aggregations read, each once."""
        own = (feature.source_column for feature in self.features if isinstance(feature, Feature))
        return tuple(dict.fromkeys([*own, *(name for made in self.aggregations for name in made.columns_read)]))

    @lazy
    def column_dtypes(self) -> tuple[tuple[str, DType], ...]:
        """(column, dtype) of all that is read of a source's row beside keys and times; two features may share one."""
        if self.aggregations:
            return tuple(self.columns.items())
        return tuple((feature.source_column, feature.dtype) for feature in self.feature_list)

    @lazy
    def source_columns(self) -> dict[str, DType]:
        """Column → dtype of all that is read of a source's row beside keys and times; of two features the first's."""
        found: dict[str, DType] = {}
        for name, dtype in self.column_dtypes:
            found.setdefault(name, dtype)
        return found

    def key_column(self, join_key: str) -> str:
        """The source's column that holds a join key.

        Args:
            join_key: the name of a join key.

        Returns:
            The name of the column: `join_key` itself unless `join_key_map` names another.
        """
        return self.join_key_map.get(join_key, join_key)

    @property
    def ttl_time(self) -> timedelta | None:
        """The ttl, None where there is none (0 included)."""
        return self.ttl or None  # type: ignore[return-value]

    @property
    def sla_time(self) -> timedelta | None:
        """The view's freshness SLA."""
        return self.freshness_sla  # type: ignore[return-value]

    def __getitem__(self, names: str | tuple[str, ...]) -> FeatureSelection:
        return FeatureSelection(self)[names]

    def alias(self, name: str, join_key_map: Mapping[str, str] | None = None) -> FeatureSelection:
        """The same view read by other columns of the request: its columns carry the alias's name.

        Args:
            name: the alias, e.g. `dest_airport`.
            join_key_map: join key → the column of the spine or request.

        Returns:
            A selection of all features, for services and reads.
        """
        return FeatureSelection(self).alias(name, join_key_map)

    def rename(self, names: Mapping[str, str]) -> FeatureSelection:
        """The whole view with some output columns renamed.

        Args:
            names: feature → output column.

        Returns:
            A selection of all features, for services and reads.
        """
        return FeatureSelection(self).rename(names)


class FeatureSelection(Value, frozen=True):
    """Some features of a view, as a service or a request selects them.

    Attributes:
        view: the view object, or an on-demand view.
        names: the selected features; None: all of them.
        alias_name: the alias whose name the features carry, or None.
        join_key_map: join key → column of the request, for an alias.
        renames: feature → output column.
    """

    view: NamedFeatures
    names: tuple[str, ...] | None = None
    alias_name: str | None = None
    join_key_map: Mapping[str, str] = msgspec.field(default_factory=dict)
    renames: Mapping[str, str] = msgspec.field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.view, self.names, self.alias_name))

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the selected features, in order."""
        return self.view.feature_names if self.names is None else self.names

    def __getitem__(self, names: str | tuple[str, ...]) -> FeatureSelection:
        wanted = (names,) if isinstance(names, str) else tuple(names)
        for name in wanted:
            self.view.feature(name)
        return replace(self, names=wanted)

    def alias(self, name: str, join_key_map: Mapping[str, str] | None = None) -> FeatureSelection:
        """The same selection read by other columns of the request: its columns carry the alias's name.

        Args:
            name: the alias, e.g. `dest_airport`.
            join_key_map: join key → the column of the spine or request.

        Returns:
            A new selection.
        """
        return replace(self, alias_name=name, join_key_map=dict(join_key_map or {}))

    def rename(self, names: Mapping[str, str]) -> FeatureSelection:
        """The same selection with some output columns renamed.

        Args:
            names: feature → output column.

        Returns:
            A new selection.

        Raises:
            FeatureNotFound: a feature is not selected.
        """
        there = frozenset(self.feature_names)
        for name in names:
            if name not in there:
                raise FeatureNotFound(
                    f"{brief(f'{self.view.name}:{name}')} is not selected; the selection has "
                    f"{listing(self.feature_names)}{nearest(name, self.feature_names)}"
                )
        return replace(self, renames={**self.renames, **names})
