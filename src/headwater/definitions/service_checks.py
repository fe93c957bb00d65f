"""Checks of a service's list: what it refers to exists, aliases and renames have proper names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from headwater.definitions.names import name_problem, of_those
from headwater.definitions.on_demand import OnDemandFeatureView
from headwater.definitions.service import FeatureService
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.errors import nearest

_REFERENCE = re.compile(r"(?P<view>[^@:\s]+)(?:@(?P<version>[^@:\s]+))?(?::(?P<feature>[^:\s]+))?$")

Known = Mapping[str, Sequence[Any]]


def check_items(service: FeatureService, known: Known) -> Iterator[str]:
    """Problems of a service's items.

    Args:
        service: the service.
        known: the versions of each view, those being applied and those registered.
    """
    if not service.items and not service.problems:
        yield "a feature service must have at least one feature"
    for item in service.items:
        match item:
            case str():
                yield from _check_reference(item, known)
            case FeatureView() | OnDemandFeatureView():
                yield from view_problems(item, known)
            case FeatureSelection():
                yield from view_problems(item.view, known)
                yield from selection_problems(item)
            case FeatureService():
                yield f"feature service {item.name!r} is inside a list; list its features instead"
            case _:
                yield f"{item!r} is not a feature; give 'view:feature', a view, or view['feature']"


def _check_reference(text: str, known: Known) -> Iterator[str]:
    found = _REFERENCE.match(text.strip())
    if found is None:
        yield f"{text!r} is not a reference; write 'view:feature', 'view@1.2.0:feature' or 'view:*'"
        return
    name, version, feature = found["view"], found["version"], found["feature"]
    versions = known.get(name)
    if versions is None:
        yield f"{text!r}: there is no feature view {name!r}{nearest(name, known)}"
        return
    if feature is None:
        yield f"{text!r} is a view; write '{text}:*' for all of its features"
        return
    numbers = [view.version for view in versions]
    if version is not None and version not in numbers:
        # a view that has no number yet may get just this one from this apply
        if None not in numbers:
            yield f"{text!r}: view {name!r} has no version {version!r}{of_those(version, map(str, numbers), 'it')}"
        return
    candidates = [view for view in versions if version is None or view.version == version]
    if feature != "*" and not any(feature in view.features_by_name for view in candidates):
        features = dict.fromkeys(f for view in candidates for f in view.feature_names)
        yield f"{text!r}: view {name!r} has no feature {feature!r}{of_those(feature, map(str, features), 'it')}"


def view_problems(view: Any, known: Known) -> Iterator[str]:
    """Whether a view that is read is registered, or among the definitions."""
    if isinstance(view.name, str) and view.name not in known:
        yield f"feature view {view.name!r} is neither registered nor among the definitions{nearest(view.name, known)}"


def selection_problems(item: FeatureSelection) -> Iterator[str]:
    """Problems of the alias, keys and renames of what is read of a view."""
    if item.alias_name is not None:
        problem = name_problem(item.alias_name, "an alias")
        if problem is not None:
            yield problem
    for key in item.join_key_map:
        if key not in item.view.join_keys:
            there = of_those(key, item.view.join_keys, "it")
            if not item.view.join_keys:
                there = ", which has none"
            if not isinstance(item.view, FeatureView):
                there += " of its own; give its inputs the alias: inputs=[view.alias(…)[…]]"
            yield f"alias {item.alias_name!r}: {key!r} is not a join key of {item.view.name!r}{there}"
    for name, output in item.renames.items():
        problem = name_problem(output, "a column")
        if problem is not None:
            yield f"rename of {name!r}: {problem}"
