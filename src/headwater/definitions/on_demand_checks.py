"""Checks of on-demand feature views: their inputs, what their function takes and may name, and their features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from headwater.definitions.feature import Feature
from headwater.definitions.function_source import call_problems, parameters
from headwater.definitions.names import name_problem, of_those, repeated
from headwater.definitions.on_demand import ERRORS, MODES, NULLS, OnDemandFeatureView, RequestField
from headwater.definitions.service_checks import selection_problems, view_problems
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.types import DType


def on_demand_problems(view: OnDemandFeatureView, known: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Problems of an on-demand view, its features aside.

    Args:
        view: the view.
        known: the versions of each view, those being applied and those registered.
    """
    for name, value, allowed in (
        ("mode", view.mode, MODES),
        ("nulls", view.nulls, NULLS),
        ("errors", view.errors, ERRORS),
    ):
        if value not in allowed:
            yield f"{name}: {value!r} is not one of {', '.join(allowed)}"
    if not view.inputs and not view.problems:
        yield "an on-demand feature view must have at least one input"
    if not view.features and not view.problems:
        yield "an on-demand feature view must have at least one feature"
    for item in view.inputs:
        match item:
            case RequestField():
                yield from _field_problems(item)
            case FeatureSelection():
                yield from view_problems(item.view, known)
                yield from selection_problems(item)
            case FeatureView() | OnDemandFeatureView():
                yield from view_problems(item, known)
            case _:
                yield (
                    f"{item!r} is not an input; give features of a view object such as weather['temp'], or "
                    "hw.RequestField('hour', hw.Int64)"
                )
    names = [name for name in argument_names(view) if isinstance(name, str)]
    for first, second in repeated(names):
        yield f"two inputs are named {first!r}{'' if first == second else f' and {second!r}'}: rename() one of them"
    if view.source and not view.problems:
        yield from _parameter_problems(view, names)
    fields = {field.name for field in view.request_fields}
    for first, second in repeated(feature.name for feature in view.feature_list):
        yield f"two features are named {first!r}{'' if first == second else f' and {second!r}'}"
    for feature in view.feature_list:
        if feature.name in fields:
            yield f"feature {feature.name!r} is named like its request field, a column of the spine: rename one"


def argument_names(view: OnDemandFeatureView) -> Iterator[str]:
    """What a function calls its inputs, in order."""
    for item in view.inputs:
        if isinstance(item, RequestField):
            yield item.name
            continue
        if not isinstance(item, (FeatureView, OnDemandFeatureView, FeatureSelection)):
            continue
        selection = item if isinstance(item, FeatureSelection) else FeatureSelection(item)
        for name in selection.feature_names:
            renamed = selection.renames.get(name)
            yield renamed or (f"{selection.alias_name}__{name}" if selection.alias_name else name)


def _field_problems(field: RequestField) -> Iterator[str]:
    problem = name_problem(field.name, "a request field")
    if problem is not None:
        yield problem
    if not isinstance(field.dtype, DType):
        yield f"request field {field.name!r}: {field.dtype!r} is not a dtype; give one such as hw.Float64"
    elif field.dtype.name == "embedding" and not (isinstance(field.dtype.dim, int) and field.dtype.dim > 0):
        yield f"request field {field.name!r}: an embedding must have a length greater than zero"
    if not isinstance(field.description, str):
        yield f"request field {field.name!r}: description: must be text, not {field.description!r}"


def _parameter_problems(view: OnDemandFeatureView, names: Sequence[str]) -> Iterator[str]:
    """The parameters of its function are its inputs; of a frame or a row there is one."""
    given = parameters(view.source)
    stars = [name for name in given if name.startswith("*")]
    if stars:
        yield f"the function has {', '.join(stars)}: name each input as a parameter"
        return
    yield from call_problems(view.source, by_name=view.mode not in ("pandas", "rows"))
    if view.mode in ("pandas", "rows"):
        if len(given) != 1:
            what = "the frame of its inputs" if view.mode == "pandas" else "the dict of a row's inputs"
            has = ", ".join(given) or "none"
            yield f"in mode {view.mode!r} the function must have one parameter, {what}; it has {has}"
        return
    for name in names:
        if name not in given:
            yield f"input {name!r} is not a parameter of the function{of_those(name, given, 'it')}"
    for name in given:
        if name not in names:
            yield f"parameter {name!r} of the function is not an input{of_those(name, names, 'it')}"


def computed_feature_problems(feature: Feature) -> Iterator[str]:
    """What a feature of an on-demand view cannot have."""
    if feature.default is not None:
        yield "default: an on-demand feature has none; return the value from the function"
    if feature.column is not None:
        yield "column: an on-demand feature has no source column; omit it"
    if feature.freshness_sla is not None:
        yield "freshness_sla: an on-demand feature is computed at each read; set it on the features that it reads"
