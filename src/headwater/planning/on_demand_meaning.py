"""What makes an on-demand feature view a version: its function, its inputs by fingerprint, and its features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from headwater.definitions.fingerprint import digest
from headwater.definitions.on_demand import OnDemandFeatureView, RequestField
from headwater.planning.selections import PinnedSelection, Upstream
from headwater.types import DType

Inputs = Iterable[RequestField | PinnedSelection]
"""Of an on-demand view: request fields, and features of the versions that it was made from (`upstream`), in order."""


def argument_names(selection: PinnedSelection) -> Iterator[tuple[str, str]]:
    """(feature, the name of the argument that it is) of a selection."""
    for name in selection.names:
        yield name, argument_name(name, selection.alias, selection.renames)


def argument_name(name: str, alias: str | None, renames: Mapping[str, str]) -> str:
    """What a function calls a feature: as an output column of it would be named."""
    return renames.get(name) or (f"{alias}__{name}" if alias else name)


def arguments(inputs: Inputs, upstream: Upstream) -> Mapping[str, DType]:
    """What a function is given: name → dtype, in the order of the inputs."""
    found: dict[str, DType] = {}
    for item in inputs:
        if isinstance(item, RequestField):
            found[item.name] = item.dtype
        else:
            view = upstream[item.view, item.version].view
            found |= {argument: view.feature(name).dtype for name, argument in argument_names(item)}
    return found


def inputs_meaning(inputs: Inputs, upstream: Upstream) -> dict[str, Any]:
    """Argument → what makes its values."""
    found: dict[str, Any] = {}
    for item in inputs:
        if isinstance(item, RequestField):
            found[item.name] = ["request", str(item.dtype)]
            continue
        prints = upstream[item.view, item.version].column_fingerprints
        keys = sorted(item.join_key_map.items())
        found |= {argument: [item.view, name, prints[name], keys] for name, argument in argument_names(item)}
    return found


def function_meaning(view: OnDemandFeatureView) -> dict[str, Any]:
    """What of a function makes its values."""
    return {
        "function": view.source,
        "imports": list(view.imports),
        "mode": view.mode,
        "nulls": view.nulls,
        "errors": view.errors,
    }


def fingerprint(view: OnDemandFeatureView, inputs: Inputs, upstream: Upstream) -> str:
    """The name of a version's meaning."""
    outputs = {feature.name: str(feature.dtype) for feature in view.feature_list}
    return digest([function_meaning(view), inputs_meaning(inputs, upstream), outputs])


def column_fingerprints(view: OnDemandFeatureView, inputs: Inputs, upstream: Upstream) -> Mapping[str, str]:
    """Feature → the name of what makes its values: the whole function and all of its inputs, other features aside."""
    made = digest([function_meaning(view), inputs_meaning(inputs, upstream)])
    return {feature.name: digest([made, feature.name, str(feature.dtype)]) for feature in view.feature_list}
