"""Which views a definition names as what it reads."""

from __future__ import annotations

from typing import Any

from headwater.definitions.on_demand import OnDemandFeatureView
from headwater.definitions.sources import view_tables
from headwater.definitions.view import FeatureView


def names_read(definition: Any) -> tuple[str, ...]:
    """The names of the views that a view or an on-demand view reads, each once, in order."""
    if isinstance(definition, OnDemandFeatureView):
        names = (selection.view.name for selection in definition.selections)
        return tuple(dict.fromkeys(name for name in names if isinstance(name, str)))
    if isinstance(definition, FeatureView):
        names = (table.view.name for table in view_tables(definition.source))
        return tuple(dict.fromkeys(name for name in names if isinstance(name, str)))
    return ()
