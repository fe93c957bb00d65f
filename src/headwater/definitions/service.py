"""FeatureService: the named, ordered set of features that a model uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from headwater.definitions.coerce import as_dict, as_tuple
from headwater.definitions.place import calling_place
from headwater.definitions.view import FeatureSelection, FeatureView


@dataclass(frozen=True)
class FeatureService:
    """The features that a model reads, stored with the versions of their columns: they do not change under the model.

    Attributes:
        name: the service's name, unique in the project.
        features: selections (`weather["temp"]`, an alias), whole views, or references (`"weather:temp"`).
        version: `major.minor.patch`; None: `apply` numbers the service.
        owner: who is responsible for it; changed in place.
        description: text for readers of the catalog; changed in place.
        tags: free labels, text → text; changed in place.
        full_names: whether columns are named `view__feature`.
    """

    name: str
    features: Iterable[Any] = ()
    version: str | None = field(default=None, kw_only=True)
    owner: str = field(default="", kw_only=True)
    description: str = field(default="", kw_only=True)
    tags: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    full_names: bool = field(default=False, kw_only=True)
    problems: tuple[str, ...] = field(default=(), init=False, compare=False, repr=False)
    place: str = field(default_factory=calling_place, compare=False, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        problems: list[str] = []
        one = isinstance(self.features, (str, FeatureView, FeatureSelection))
        features = (self.features,) if one else as_tuple(self.features, "features", problems)
        object.__setattr__(self, "features", features)
        object.__setattr__(self, "tags", as_dict(self.tags, "tags", problems))
        object.__setattr__(self, "problems", tuple(problems))

    def __hash__(self) -> int:
        return hash((self.name, self.version))

    @property
    def items(self) -> tuple[Any, ...]:
        """The selections and references, in order."""
        return self.features  # type: ignore[return-value]
