"""FeatureService: the named, ordered set of features that a model uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import force_setattr

from headwater.definitions.coerce import as_dict, as_tuple
from headwater.definitions.place import Placed
from headwater.definitions.view import FeatureSelection, FeatureView


class _Features(Placed, frozen=True):
    """What a service may be given by position."""

    name: str
    features: Iterable[Any] = ()


class FeatureService(_Features, frozen=True, kw_only=True):
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

    version: str | None = None
    owner: str = ""
    description: str = ""
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)
    full_names: bool = False

    def __post_init__(self) -> None:
        problems: list[str] = []
        one = isinstance(self.features, (str, FeatureView, FeatureSelection)) or hasattr(self.features, "function")
        features = (self.features,) if one else as_tuple(self.features, "features", problems)
        force_setattr(self, "features", features)
        force_setattr(self, "tags", as_dict(self.tags, "tags", problems))
        force_setattr(self, "problems", tuple(problems))

    def __hash__(self) -> int:
        return hash((self.name, self.version))

    @property
    def items(self) -> tuple[Any, ...]:
        """The selections and references, in order."""
        return self.features  # type: ignore[return-value]
