"""FeatureService: the named, ordered set of features that a model uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from headwater.definitions.place import calling_place


@dataclass(frozen=True)
class FeatureService:
    """What a model reads; stored expanded, so that its columns never change under it.

    Attributes:
        name: unique in the project.
        features: selections (`weather["temp"]`, an alias), whole views, or references (`"weather:temp"`).
        version: left out, `apply` numbers the service.
        owner, description, tags: for people; changed in place.
        full_names: whether columns are named `view__feature`.
    """

    name: str
    features: Iterable[Any] = ()
    version: str | None = field(default=None, kw_only=True)
    owner: str = field(default="", kw_only=True)
    description: str = field(default="", kw_only=True)
    tags: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    full_names: bool = field(default=False, kw_only=True)
    place: str = field(default_factory=calling_place, compare=False, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        features = self.features
        object.__setattr__(self, "features", (features,) if isinstance(features, str) else tuple(features))
        object.__setattr__(self, "tags", dict(self.tags or {}))

    def __hash__(self) -> int:
        return hash((self.name, self.version))

    @property
    def items(self) -> tuple[Any, ...]:
        """The selections and references, in order."""
        return self.features  # type: ignore[return-value]
