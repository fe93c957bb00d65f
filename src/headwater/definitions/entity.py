"""Entity: what features are about, and the join keys that find it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import force_setattr

from headwater.definitions.coerce import as_dict
from headwater.definitions.place import Placed
from headwater.types import DType


class Entity(Placed, frozen=True):
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
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        problems: list[str] = []
        force_setattr(self, "join_keys", as_dict(self.join_keys, "join_keys", problems))
        force_setattr(self, "tags", as_dict(self.tags, "tags", problems))
        force_setattr(self, "problems", tuple(problems))

    def __hash__(self) -> int:
        return hash((self.name, tuple(self.join_keys)))
