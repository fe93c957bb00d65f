"""Versions of on-demand feature views as the registry stores them: plain data with a format version, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headwater.definitions.on_demand import OnDemandFeatureView, RequestField
from headwater.definitions.serialize import PLACE, feature_from_dict, feature_to_dict
from headwater.errors import FormatError
from headwater.planning.selections import PinnedSelection
from headwater.planning.snapshot import OnDemandVersion
from headwater.registry.selections import selection_from_dict, selection_to_dict
from headwater.types import DType

_FORMAT = 1


def on_demand_to_dict(version: OnDemandVersion) -> dict[str, Any]:
    """A version as plain data, its function as source text."""
    view = version.view
    return {
        "format": _FORMAT,
        "name": view.name,
        "version": version.version,
        "inputs": [_input_to_dict(item) for item in version.inputs],
        "features": [feature_to_dict(feature) for feature in view.feature_list],
        "mode": view.mode,
        "nulls": view.nulls,
        "errors": view.errors,
        "source": view.source,
        "imports": list(view.imports),
        "owner": view.owner,
        "description": view.description,
        "tags": dict(view.tags),
    }


def on_demand_from_dict(
    data: Mapping[str, Any],
) -> tuple[OnDemandFeatureView, tuple[RequestField | PinnedSelection, ...]]:
    """The definition that `on_demand_to_dict` wrote, and its inputs.

    Raises:
        FormatError: data of a newer format.
    """
    if data["format"] > _FORMAT:
        raise FormatError(
            f"on-demand feature view {data.get('name')!r} has format {data['format']}; this headwater reads {_FORMAT}: "
            "upgrade it"
        )
    view = OnDemandFeatureView(
        data["name"],
        inputs=(),
        features=tuple(map(feature_from_dict, data["features"])),
        mode=data["mode"],
        nulls=data["nulls"],
        errors=data["errors"],
        version=data["version"],
        owner=data["owner"],
        description=data["description"],
        tags=data["tags"],
        source=data["source"],
        imports=tuple(data["imports"]),
        place=PLACE,
    )
    return view, tuple(map(_input_from_dict, data["inputs"]))


def _input_to_dict(item: RequestField | PinnedSelection) -> dict[str, Any]:
    if isinstance(item, PinnedSelection):
        return selection_to_dict(item)
    return {"request": item.name, "dtype": str(item.dtype), "description": item.description}


def _input_from_dict(data: Mapping[str, Any]) -> RequestField | PinnedSelection:
    if "request" in data:
        return RequestField(data["request"], DType.parse(data["dtype"]), data["description"], place=PLACE)
    return selection_from_dict(data)
