"""Entity: what features are about, and the join keys that find it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headwater.definitions.coerce import as_dict
from headwater.definitions.place import calling_place
from headwater.types import DType


@dataclass(frozen=True)
class Entity:
    """What features describe, identified by one or more join keys.

    Attributes:
        name: the entity's name, unique in the project.
        join_keys: name → dtype of each join key, in order; any scalar dtype except floats.
        description: text for readers of the catalog.
        tags: free labels, text → text.
    """

    name: str
    join_keys: Mapping[str, DType]
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = field(default=(), init=False, compare=False, repr=False)
    place: str = field(default_factory=calling_place, compare=False, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        problems: list[str] = []
        object.__setattr__(self, "join_keys", as_dict(self.join_keys, "join_keys", problems))
        object.__setattr__(self, "tags", as_dict(self.tags, "tags", problems))
        object.__setattr__(self, "problems", tuple(problems))

    def __hash__(self) -> int:
        return hash((self.name, tuple(self.join_keys)))
