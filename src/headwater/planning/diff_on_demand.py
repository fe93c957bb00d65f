"""Diff of on-demand feature views: which version a definition is, and what is changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from difflib import unified_diff
from typing import Any

from headwater.definitions.on_demand import OnDemandFeatureView, RequestField
from headwater.definitions.serialize import feature_to_dict
from headwater.planning.differences import Bump, Difference
from headwater.planning.draft import Draft, where
from headwater.planning.numbering import choose
from headwater.planning.on_demand_meaning import argument_names, function_meaning, inputs_meaning
from headwater.planning.pins import on_demand_version
from headwater.planning.resolve import resolve
from headwater.planning.selections import PinnedSelection
from headwater.planning.snapshot import Kind, OnDemandVersion
from headwater.planning.stages import Action, Stage

_IN_PLACE = ("owner", "description", "tags")
_FEATURE_IN_PLACE = ("description", "kind", "owner", "tags")


def plan_on_demand(draft: Draft, view: OnDemandFeatureView) -> None:
    """Compare one on-demand view with the registry.

    Raises:
        NotFound, UsageError: what is wrong with its inputs.
        VersionConflict: a changed definition under a version that is registered.
    """
    record = draft.before.on_demand.get(view.name)
    wanted = on_demand_version(draft.after, view, prefer=draft.chosen)

    def differ(version: OnDemandVersion) -> Difference:
        return on_demand_difference(version, wanted)

    def same(version: OnDemandVersion) -> bool:
        return version.fingerprint == wanted.fingerprint

    automatic = view.version is None
    choice = choose(record, view.version, same, differ, where(view))
    draft.chosen[view.name] = choice.version
    definition = replace(wanted, view=replace(wanted.view, version=choice.version))
    if choice.found is None:
        base = choice.base
        in_place = in_place_lines(base.view, view) if isinstance(base, OnDemandVersion) else ()
        added = _described(wanted) if base is None else ()
        draft.add_version(Kind.ON_DEMAND, record, choice, definition, automatic=automatic, details=(*added, *in_place))
        # keys of its inputs that do not fit one another, request fields of two dtypes
        resolve(draft.after, [f"{view.name}@{choice.version}:*"], full_names=True, history=True)
        return
    assert record is not None and isinstance(choice.found, OnDemandVersion)
    details = tuple(in_place_lines(choice.found.view, view))
    stages = []
    if details:
        order = [view.feature(name) for name in choice.found.view.feature_names]
        kept = replace(definition, view=replace(definition.view, features=order), inputs=choice.found.inputs)
        stages = [Stage(Action.UPDATE, Kind.ON_DEMAND, view.name, choice.version, details=details, definition=kept)]
    draft.found(Kind.ON_DEMAND, record, choice.found, stages, automatic=automatic)


def _described(version: OnDemandVersion) -> Iterator[str]:
    """What a first version computes, and of what."""
    view = version.view
    features = ", ".join(f"{feature.name} ({feature.dtype})" for feature in view.feature_list)
    inputs = ", ".join(map(_input_words, version.inputs))
    yield f"{features} of {inputs}; mode {view.mode}, nulls {view.nulls}, errors {view.errors}"


def _input_words(item: RequestField | PinnedSelection) -> str:
    if isinstance(item, RequestField):
        return f"request {item.name} ({item.dtype})"
    return ", ".join(f"{item.view}@{item.version}:{name}" for name in item.names)


def on_demand_difference(old: OnDemandVersion, new: OnDemandVersion) -> Difference:
    """What a version fixes and these two differ in: minor where features are only added, else major."""
    altered = [*_function_lines(function_meaning(old.view), function_meaning(new.view)), *_input_lines(old, new)]
    added = []
    before, after = old.view.features_by_name, new.view.features_by_name
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in after:
            altered.append(f"feature {name} removed")
        elif name not in before:
            added.append(f"feature {name} added ({after[name].dtype})")
        elif before[name].dtype != after[name].dtype:
            altered.append(f"feature {name}: dtype: {before[name].dtype} → {after[name].dtype}")
    bump = Bump.MAJOR if altered else Bump.MINOR if added else None
    return Difference((*altered, *added), bump)


def _function_lines(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    if before["function"] != after["function"]:
        yield "function changed:"
        lines = unified_diff(before["function"].splitlines(), after["function"].splitlines(), lineterm="", n=1)
        for number, line in enumerate(lines):
            if number >= 2 and not line.startswith("@@"):
                yield f"    {line}"
    if before["imports"] != after["imports"]:
        old, new = ("; ".join(side["imports"]) or "none" for side in (before, after))
        yield f"imports: {old} → {new}"
    for name in ("mode", "nulls", "errors"):
        if before[name] != after[name]:
            yield f"{name}: {before[name]} → {after[name]}"


def _input_lines(old: OnDemandVersion, new: OnDemandVersion) -> Iterator[str]:
    before, after = inputs_meaning(old.inputs, old.upstream), inputs_meaning(new.inputs, new.upstream)
    olds, news = _made_from(old), _made_from(new)
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in after:
            yield f"input {name} removed"
        elif name not in before:
            yield f"input {name} added"
        elif before[name] != after[name]:
            yield f"input {name}: {olds[name]} → {news[name]}" + (
                "" if olds[name].partition("@")[0] != news[name].partition("@")[0] else ": its values may change"
            )


def _made_from(version: OnDemandVersion) -> dict[str, str]:
    """Argument → what it is made from, in words."""
    found: dict[str, str] = {}
    for item in version.inputs:
        if isinstance(item, RequestField):
            found[item.name] = f"request ({item.dtype})"
        else:
            keys = "".join(f" by {key}={column}" for key, column in sorted(item.join_key_map.items()))
            found |= {argument: f"{item.view}@{item.version}:{name}{keys}" for name, argument in argument_names(item)}
    return found


def in_place_lines(old: OnDemandFeatureView, new: OnDemandFeatureView) -> Iterator[str]:
    """What `apply` updates under the same version: texts, owners, tags, kinds."""
    for name in _IN_PLACE:
        yield from _changed(name, getattr(old, name), getattr(new, name))
    for feature in new.feature_list:
        if feature.name in old.features_by_name:
            before, after = feature_to_dict(old.feature(feature.name)), feature_to_dict(feature)
            for name in _FEATURE_IN_PLACE:
                yield from _changed(f"feature {feature.name}: {name}", before[name], after[name])


def _changed(what: str, old: Any, new: Any) -> Iterator[str]:
    if old != new:
        yield f"{what}: {_show(old)} → {_show(new)}"


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items()) or "none"
    return str(value) if value else "none"
