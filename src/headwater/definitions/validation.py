"""Validation: everything that is wrong with a project's definitions, found together, each with its place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from headwater.clock import format_duration
from headwater.definitions.aggregation import Aggregation
from headwater.definitions.aggregation_checks import aggregation_problems
from headwater.definitions.entity import Entity
from headwater.definitions.feature import Feature
from headwater.definitions.fingerprint import fingerprint
from headwater.definitions.names import is_text, name_problem, of_those, repeated, version_problem
from headwater.definitions.on_demand import OnDemandFeatureView
from headwater.definitions.on_demand_checks import computed_feature_problems, on_demand_problems
from headwater.definitions.service import FeatureService
from headwater.definitions.service_checks import check_items
from headwater.definitions.source_checks import RESERVED_COLUMN, Note, Schemas, check_columns, check_settings
from headwater.definitions.text import text_problems
from headwater.definitions.view import FeatureView
from headwater.definitions.window_checks import window_view_problems
from headwater.errors import nearest
from headwater.types import DType, FeatureKind

_RESERVED = (
    f"column {RESERVED_COLUMN!r} is reserved for the created time of written rows: name it as created_time= "
    "of the source, or use another column"
)
KEY_DTYPES = ("int32", "int64", "string", "bytes", "bool", "timestamp", "date")


@dataclass
class Findings:
    """Definitions sorted by kind, and what is wrong with them.

    Attributes:
        entities: those given and those that views carry.
        views, on_demand, services: as given, each once.
        problems: one line each: `features.py:12 weather.temp: …`.
        notes: lines of the same form about what is not a problem, but good to know.
        bad: (kind, name) of what has a problem, kind being `entity`, `view`, `on_demand` or `service`.
    """

    entities: list[Entity] = field(default_factory=list)
    views: list[FeatureView] = field(default_factory=list)
    on_demand: list[OnDemandFeatureView] = field(default_factory=list)
    services: list[FeatureService] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bad: set[tuple[str, Any]] = field(default_factory=set)

    def report(self, kind: str, definition: Any, problems: Iterable[str], feature: str | None = None) -> None:
        """Take down the problems of a definition, or of one of its features."""
        for problem in problems:
            subject = definition.name if is_text(definition.name) else f"a {kind.replace('_', '-')}"
            place = getattr(definition, "place", "")
            full = f"{subject}.{feature}" if feature is not None else subject
            # an error must be text that can be written, whatever it speaks of
            line = f"{place} {full}: {problem}".strip().encode("utf-8", "backslashreplace").decode()
            if isinstance(problem, Note):
                self.notes.append(line)
                continue
            self.problems.append(line)
            self.bad.add((kind, definition.name if isinstance(definition.name, str) else None))


def check(
    definitions: Iterable[Any],
    schemas: Schemas | None = None,
    registered: Mapping[str, Sequence[Any]] | None = None,
) -> Findings:
    """Everything that is wrong with definitions; raises nothing.

    Args:
        definitions: entities, views and services; one object given twice counts once.
        schemas: the columns of a source; left out, sources are not looked at.
        registered: versions of views that references may mean although they are not among the definitions.
    """
    found = _sorted(definitions)
    for entity in found.entities:
        found.report("entity", entity, [*_entity_problems(entity), *text_problems(entity)])
    for view in found.views:
        _check_view(found, view, schemas)
    known: dict[str, list[Any]] = {}
    others = (v for versions in (registered or {}).values() for v in versions)
    for view in [*found.views, *found.on_demand, *others]:
        if isinstance(view.name, str):
            known.setdefault(view.name, []).append(view)
    for computed in found.on_demand:
        _check_on_demand(found, computed, known)
    for service in found.services:
        # views among its items have problems of their own
        texts = text_problems(service, but=("items", "features"))
        problems = [*_common_problems(service, "a feature service"), *check_items(service, known), *texts]
        found.report("service", service, problems)
    _check_repeats(found)
    return found


def _sorted(definitions: Iterable[Any]) -> Findings:
    found = Findings()
    unique = list({id(definition): definition for definition in definitions}.values())
    for definition in unique:
        match definition:
            case Entity():
                found.entities.append(definition)
            case FeatureView():
                found.views.append(definition)
            case OnDemandFeatureView():
                found.on_demand.append(definition)
            case FeatureService():
                found.services.append(definition)
            case _:
                found.problems.append(
                    f"{definition!r} is not a definition; give entities, feature views and feature services"
                )
    for view in found.views:
        for entity in view.entities:
            if not any(entity is other or entity == other for other in found.entities):
                found.entities.append(entity)
    return found


def _check_repeats(found: Findings) -> None:
    kinds = {"entity": found.entities, "view": found.views, "on_demand": found.on_demand, "service": found.services}
    for kind, definitions in kinds.items():
        seen: dict[Any, Any] = {}
        for definition in definitions:  # type: ignore[attr-defined]
            name = definition.name if isinstance(definition.name, str) else None
            if name is None:
                continue
            if name in seen:
                first = seen[name].place
                found.report(
                    kind, definition, [f"the name is taken: {f'{first} defines' if first else 'there is'} another"]
                )
            seen.setdefault(name, definition)
    views = {view.name: view for view in found.views if isinstance(view.name, str)}
    for kind, others in (("on_demand", found.on_demand), ("service", found.services)):
        for definition in others:
            if isinstance(definition.name, str) and definition.name in views:
                place = views[definition.name].place
                found.report(kind, definition, [f"a feature view has this name{f' ({place})' if place else ''}"])
    computed = {view.name: view for view in found.on_demand if isinstance(view.name, str)}
    for service in found.services:
        if isinstance(service.name, str) and service.name in computed:
            place = computed[service.name].place
            words = f"an on-demand feature view has this name{f' ({place})' if place else ''}"
            found.report("service", service, [words])


def _common_problems(definition: Any, what: str) -> Iterator[str]:
    """Names, versions and texts, the same for views and services."""
    problem = name_problem(definition.name, what)
    if problem is not None:
        yield problem
    problem = version_problem(getattr(definition, "version", None))
    if problem is not None:
        yield problem
    yield from definition.problems
    for name in ("owner", "description"):
        value = getattr(definition, name, "")
        if not isinstance(value, str):
            yield f"{name}: must be text, not {value!r}"
    for key, value in definition.tags.items():
        if not isinstance(key, str) or not isinstance(value, str):
            yield f"tags: must map text to text, not {key!r}: {value!r}"


def _entity_problems(entity: Entity) -> Iterator[str]:
    yield from _common_problems(entity, "an entity")
    if not entity.join_keys and not entity.problems:
        yield "an entity must have at least one join key; for global values give a view entity=()"
    for key, dtype in entity.join_keys.items():
        problem = name_problem(key, "a join key")
        if problem is not None:
            yield problem
        if not isinstance(dtype, DType):
            yield f"join key {key!r} is {dtype!r}; give a dtype such as hw.String"
        elif dtype.name not in KEY_DTYPES:
            yield f"join key {key!r} is {dtype}; a key is one of {', '.join(KEY_DTYPES)}"
    yield from _case_problems(entity.join_keys, "join key")


def _case_problems(names: Iterable[Any], what: str) -> Iterator[str]:
    for first, second in repeated(name for name in names if isinstance(name, str)):
        if first == second:
            yield f"{what} {first!r} is there twice"
        else:
            yield f"{what}s {first!r} and {second!r} differ only in letter case"


def _check_view(found: Findings, view: FeatureView, schemas: Schemas | None) -> None:
    texts = text_problems(view, but=("entity", "features"))
    problems = [*_common_problems(view, "a feature view"), *_view_problems(view, found.entities), *texts]
    found.report("view", view, problems)
    bad = bool(problems)
    for feature in view.features:
        if isinstance(feature, Aggregation):
            about = [*_aggregation_problems(feature, view), *text_problems(feature)]
            found.report("view", view, about, feature.feature_name if is_text(feature.feature_name) else "a feature")
            bad = bad or bool(about)
            continue
        if not isinstance(feature, Feature):
            found.report("view", view, [f"{feature!r} is not a feature; write hw.Feature('name', hw.Float64)"])
            bad = True
            continue
        about = [*_feature_problems(feature, view), *text_problems(feature)]
        found.report("view", view, about, feature.name if is_text(feature.name) else "a feature")
        bad = bad or bool(about)
    if bad or any(("entity", entity.name) in found.bad for entity in view.entities):
        found.bad.add(("view", view.name if isinstance(view.name, str) else None))
    # columns are looked at beside other problems, so that all are told at once, but for a form that cannot be looked up
    if _has_form(view):
        for name, problem in check_columns(view, schemas):
            found.report("view", view, [problem], name)
            bad = bad or (bool(view.aggregations) and not isinstance(problem, Note))
    if bad:
        return
    try:
        fingerprint(view)
    except Exception as bad_view:  # a definition of a form that no check above knows
        found.report("view", view, [f"cannot be read: {bad_view}"])


def _check_on_demand(found: Findings, view: OnDemandFeatureView, known: Mapping[str, Sequence[Any]]) -> None:
    # views among its inputs have problems of their own
    texts = text_problems(view, but=("inputs", "features", "selections"))
    problems = [*_common_problems(view, "an on-demand feature view"), *on_demand_problems(view, known), *texts]
    found.report("on_demand", view, problems)
    for feature in view.features:
        if not isinstance(feature, Feature):
            found.report("on_demand", view, [f"{feature!r} is not a feature; write hw.Feature('name', hw.Float64)"])
            continue
        about = [*_feature_problems(feature, view), *computed_feature_problems(feature), *text_problems(feature)]
        found.report("on_demand", view, about, feature.name if is_text(feature.name) else "a feature")


def _has_form(view: FeatureView) -> bool:
    """Whether keys, features and source are what they should be, so that their columns can be looked up."""
    features = all(
        (isinstance(f, Aggregation) and not aggregation_problems(f))
        or (isinstance(f, Feature) and isinstance(f.dtype, DType) and f.dtype.dim != 0 and is_text(f.source_column))
        for f in view.features
    )
    if len({isinstance(f, Aggregation) for f in view.features}) > 1:
        return False
    features = features and all(isinstance(d, DType) and d.dim != 0 for d in view.columns.values())
    entities = all(
        isinstance(e, Entity)
        and isinstance(e.join_keys, dict)
        and all(isinstance(d, DType) for d in e.join_keys.values())
        for e in view.entity  # type: ignore[union-attr]
    )
    columns = all(is_text(column) for column in view.join_key_map.values())
    return features and entities and columns and not any(check_settings(view.source))


def _view_problems(view: FeatureView, entities: Sequence[Entity]) -> Iterator[str]:
    names = [entity.name for entity in entities if isinstance(entity.name, str)]
    for entity in view.entity:  # type: ignore[union-attr]
        if not isinstance(entity, Entity):
            hint = f"; {entity} is defined: give the object" if entity in names else nearest(str(entity), names)
            yield f"unknown entity {entity!r}: must be an hw.Entity{hint}"
    yield from check_settings(view.source)
    yield from _case_problems((key for entity in view.entities for key in entity.join_keys), "join key")
    for key, column in view.join_key_map.items():
        if key not in view.join_keys:
            yield f"join_key_map: {key!r} is not a join key of this view{of_those(key, view.join_keys, 'it')}"
        elif not is_text(column):
            yield f"join_key_map: {key!r} must map to the name of a column, not {column!r}"
    if not view.features and not view.problems:
        yield "a feature view must have at least one feature"
    if view.aggregations:
        yield from window_view_problems(view)
    else:
        yield from _case_problems((feature.name for feature in view.feature_list), "feature")
        if view.columns:
            yield "columns: is for window views, whose features are aggregations; omit it"
    ttl, sla = view.ttl, view.freshness_sla
    if isinstance(ttl, timedelta) and ttl < timedelta(0):
        yield f"ttl: {format_duration(ttl)} is negative; omit it for no limit"
    if isinstance(sla, timedelta) and sla <= timedelta(0):
        yield f"freshness_sla: {format_duration(sla)} must be greater than zero"
    share = view.availability_sla
    if share is not None and not _is_share(share):
        yield f"availability_sla: {share!r} is not a share from 0 to 1, such as 0.99"


def _is_share(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and not math.isnan(value) and 0 <= value <= 1


def _aggregation_problems(given: Aggregation, view: FeatureView) -> Iterator[str]:
    own = aggregation_problems(given)
    yield from own
    names = [] if own else [made.feature_name for made in given.expanded()]
    keys = {key.casefold(): key for key in view.join_keys if isinstance(key, str)}
    for name in names:
        if name.casefold() in keys:
            yield f"join key {keys[name.casefold()]!r} has this name; give the aggregation another name="
    if RESERVED_COLUMN in given.columns_read and getattr(view.source, "created_time", None) != RESERVED_COLUMN:
        yield _RESERVED
    if not isinstance(given.description, str):
        yield f"description: must be text, not {given.description!r}"
    for key, value in given.tags.items():
        if not isinstance(key, str) or not isinstance(value, str):
            yield f"tags: must map text to text, not {key!r}: {value!r}"


def _feature_problems(feature: Feature, view: FeatureView | OnDemandFeatureView) -> Iterator[str]:
    yield from _common_problems(feature, "a feature")
    keys = {key.casefold(): key for key in view.join_keys if isinstance(key, str)}
    if isinstance(feature.name, str) and feature.name.casefold() in keys:
        yield f"join key {keys[feature.name.casefold()]!r} has this name; rename the feature (column= keeps its column)"
    if feature.column is not None and not is_text(feature.column):
        yield f"column: must be the name of a column, not {feature.column!r}"
    elif feature.source_column == RESERVED_COLUMN and getattr(view.source, "created_time", None) != RESERVED_COLUMN:
        yield _RESERVED
    if not isinstance(feature.dtype, DType):
        yield f"{feature.dtype!r} is not a dtype; give one such as hw.Float64"
        return
    if feature.dtype.name == "embedding" and not (isinstance(feature.dtype.dim, int) and feature.dtype.dim > 0):
        yield f"an embedding must have a length greater than zero, not {feature.dtype.dim!r}"
    elif not feature.dtype.accepts(feature.default):
        yield f"the default {feature.default!r} is not {feature.dtype}"
    if feature.kind is FeatureKind.NUMERICAL and not feature.dtype.numeric:
        yield f"kind: {feature.dtype} is not numerical"
    if feature.kind is FeatureKind.EMBEDDING and feature.dtype.name not in ("embedding", "array"):
        yield f"kind: {feature.dtype} is not an embedding"
    sla = feature.freshness_sla
    if isinstance(sla, timedelta) and sla <= timedelta(0):
        yield f"freshness_sla: {format_duration(sla)} must be greater than zero"
