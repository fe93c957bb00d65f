"""The selections of a request while they are gathered: before what on-demand views read of others is added."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from headwater.definitions.feature import Feature
from headwater.planning.snapshot import OnDemandVersion, ViewVersion


class Gathered(msgspec.Struct):
    """Selections while they are gathered: views keyed by label, columns in order, and what each is named for.

    Attributes:
        views: label → version, whether it is live, and its key map.
        features: label → the features that are read of it.
        columns: name, label, feature and `by_name` of each output column.
        names: output column → the reference that it is of.
        computed: label → version, and whether it is live, of on-demand views.
    """

    views: dict[str, tuple[ViewVersion, bool, Mapping[str, str]]] = msgspec.field(default_factory=dict)
    features: dict[str, dict[str, Feature]] = msgspec.field(default_factory=dict)
    columns: list[tuple[str, str, Feature, bool]] = msgspec.field(default_factory=list)
    names: dict[str, str] = msgspec.field(default_factory=dict)
    computed: dict[str, tuple[OnDemandVersion, bool]] = msgspec.field(default_factory=dict)
