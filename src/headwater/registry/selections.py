"""Selections of features as services and on-demand views store them: plain data, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headwater.planning.selections import PinnedSelection


def selection_to_dict(selection: PinnedSelection) -> dict[str, Any]:
    """A selection as plain data."""
    return {
        "view": selection.view,
        "version": selection.version,
        "names": list(selection.names),
        "alias": selection.alias,
        "join_key_map": dict(selection.join_key_map),
        "renames": dict(selection.renames),
    }


def selection_from_dict(data: Mapping[str, Any]) -> PinnedSelection:
    """The selection that `selection_to_dict` wrote."""
    names = tuple(data["names"])
    return PinnedSelection(data["view"], data["version"], names, data["alias"], data["join_key_map"], data["renames"])
