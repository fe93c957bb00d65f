"""The columns of a service: what its list means, and when two lists mean the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, ClassVar

from headwater.definitions.model import Model
from headwater.definitions.service import FeatureService
from headwater.definitions.view import FeatureSelection, FeatureView
from headwater.errors import NotFound, UsageError, VersionNotFound
from headwater.planning.pins import is_on_demand, pin
from headwater.planning.references import Reference, parse_reference
from headwater.planning.selections import PinnedSelection
from headwater.planning.snapshot import RegistrySnapshot, ServiceVersion
from headwater.values import PartlyCompared


class Column(PartlyCompared, frozen=True):
    """One column of a service; equal to another where both mean the same values under the same name.

    Attributes:
        view, name: the feature.
        alias, keys, rename: how the service asks for it.
        fingerprint: of what makes its values.
        version: the view's version that it is of; another one with the same fingerprint makes the same column.
    """

    view: str
    name: str
    alias: str | None
    keys: tuple[tuple[str, str], ...]
    rename: str | None
    fingerprint: str
    version: str
    not_compared: ClassVar[tuple[str, ...]] = ("version",)

    def __str__(self) -> str:
        alias = f" as {self.alias}" if self.alias else ""
        keys = "".join(f" by {key}={column}" for key, column in self.keys)
        return f"{self.view}:{self.name}{f' → {self.rename}' if self.rename else ''}{alias}{keys}"


def columns(snapshot: RegistrySnapshot, selections: Iterable[PinnedSelection]) -> tuple[Column, ...]:
    """Selections column by column: equal lists of columns are equal however they were grouped."""
    found = []
    for s in selections:
        prints = snapshot.any_view(s.view).version(s.version).column_fingerprints
        keys = tuple(sorted(s.join_key_map.items()))
        found += [Column(s.view, n, s.alias, keys, s.renames.get(n), prints[n], s.version) for n in s.names]
    return tuple(found)


def same_service(snapshot: RegistrySnapshot, one: ServiceVersion, other: ServiceVersion) -> bool:
    """Whether two versions of a service have the same columns, in the same order, under the same names."""
    if one.full_names != other.full_names:
        return False
    return columns(snapshot, one.selections) == columns(snapshot, other.selections)


def service_version(snapshot: RegistrySnapshot, features: Any, *, history: bool = False) -> ServiceVersion | None:
    """The service version that `features` names, or None where it is a list of features.

    An object means the version with its own list, in which a text reference stands for the version it was pinned to. Of
    several it is the live one, for history the newest: what was just applied is trained on before it is promoted.

    Raises:
        NotFound: a bare name that is not a service, or an object that no registered version equals.
    """
    registered = getattr(features, "registered", None)  # what get_feature_service returns
    if isinstance(registered, ServiceVersion):
        return snapshot.service(registered.name).version(registered.version)
    if isinstance(features, FeatureService):
        return _version_of_service(snapshot, features, history)
    if isinstance(features, Model):
        logged = snapshot.model(features.name, features.version)
        return snapshot.service(logged.service).version(logged.service_version)
    if isinstance(features, str):
        reference = parse_reference(features)
        if reference.feature is None:
            if reference.name in {*snapshot.views, *snapshot.on_demand} and reference.name not in snapshot.services:
                raise UsageError(
                    f"{features!r} is a view; write ['{features}:*'] for all of its "
                    f"features (the headwater command: --features '{features}:*')"
                )
            return snapshot.service(reference.name).version(reference.version)
    return None


def _version_of_service(snapshot: RegistrySnapshot, service: FeatureService, history: bool) -> ServiceVersion:
    record = snapshot.service(service.name)
    candidates = record.versions.values() if service.version is None else [record.version(service.version)]
    newest_first = sorted(
        candidates,
        key=lambda v: (v.retired_at is None, not history and v.version == record.live, v.revision),
        reverse=True,
    )
    for version in newest_first:
        if holds(snapshot, service, version):
            return version
    which = "no registered version" if service.version is None else f"version {service.version}"
    raise VersionNotFound(f"feature service {service.name!r}: {which} has this list of features; apply it first")


def text_of(items: Iterable[Any]) -> tuple[str, ...]:
    """A service's list as it was written, an item each: while it stays the same, a star in it does not grow."""
    return tuple(map(_item_text, items))


def _item_text(item: Any) -> str:
    if isinstance(item, str):
        return str(parse_reference(item))
    registered = getattr(item, "registered", None)  # what get_feature_view returns
    if registered is not None:
        return f"{registered.view.name}@{registered.version}:*"
    selection = FeatureSelection(item) if isinstance(item, FeatureView) or is_on_demand(item) else item
    if not isinstance(selection, FeatureSelection):
        return repr(item)
    names = "*" if selection.names is None else ", ".join(selection.names)
    alias = f" as {selection.alias_name}" if selection.alias_name else ""
    keys = "".join(f" by {key}={column}" for key, column in sorted(selection.join_key_map.items()))
    renames = "".join(f" {name} → {new}" for name, new in sorted(selection.renames.items()))
    return f"{selection.view.name}[{names}]{alias}{keys}{renames}"


def is_star(item: Any) -> bool:
    """Whether an item of a list stands for all features of a view."""
    if isinstance(item, str):
        return parse_reference(item).feature == "*"
    return not isinstance(item, FeatureSelection) or item.names is None


def holds(snapshot: RegistrySnapshot, service: FeatureService, version: ServiceVersion) -> bool:
    """Whether a service's list is that of a registered version.

    A text reference is read as the version that it was made from there, and a star, in the list that the version was
    made of, as the columns that it had then.
    """
    if version.full_names != service.full_names:
        return False
    stored, runs = columns(snapshot, version.selections), runs_of(snapshot, service.items, version)
    selections: list[PinnedSelection] = []
    at = 0
    for number, item in enumerate(service.items):
        try:
            selection = pin(snapshot, _as_stored(item, stored, at))
        except NotFound:
            return False
        if runs is not None and is_star(item):
            selection = as_long_as(selection, runs[number])
        selections.append(selection)
        at += len(selection.names)
    return columns(snapshot, selections) == stored


def runs_of(
    snapshot: RegistrySnapshot, items: Sequence[Any], version: ServiceVersion
) -> list[tuple[Column, ...]] | None:
    """The columns of a registered version that each item of a list stands for; None where it has another list.

    Of a version that an earlier release stored, the list as it was written is not known: a star must have stood for
    the whole view.
    """
    if version.text is not None and version.text != text_of(items):
        return None
    stored, found = columns(snapshot, version.selections), []
    at, later = 0, sum(map(_fewest, items))
    for item in items:
        later -= _fewest(item)
        run = _run(item, stored, at, len(stored) - later)
        if not run or (version.text is None and is_star(item) and not _is_whole(snapshot, run)):
            return None
        found.append(run)
        at += len(run)
    return found if at == len(stored) else None


def _fewest(item: Any) -> int:
    """How many columns an item of a list has, at least."""
    return 1 if is_star(item) or not isinstance(item, FeatureSelection) else len(item.feature_names)


def _run(item: Any, stored: Sequence[Column], start: int, end: int) -> tuple[Column, ...]:
    """The stored columns from a place on that an item may stand for: a star for as many as possible."""
    asked, star = _asked(item), is_star(item)
    if asked is None:
        return ()
    keys = tuple(sorted(asked.join_key_map.items()))
    run: list[Column] = []
    for column in islice(stored, start, end if star else start + len(asked.names)):
        if (column.view, column.alias, column.keys) != (asked.view, asked.alias, keys):
            break
        if column.rename != asked.renames.get(column.name) or not (star or column.name == asked.names[len(run)]):
            break
        run.append(column)
    return tuple(run) if star or len(run) == len(asked.names) else ()


def _asked(item: Any) -> PinnedSelection | None:
    """What an item of a list asks for, of no version; None where it is not an item."""
    if isinstance(item, str):
        reference = parse_reference(item)
        return PinnedSelection(reference.name, "", (reference.feature or "",))
    item = getattr(getattr(item, "registered", None), "view", item)
    selection = FeatureSelection(item) if isinstance(item, FeatureView) or is_on_demand(item) else item
    if not isinstance(selection, FeatureSelection):
        return None
    names, keys = selection.feature_names, selection.join_key_map
    return PinnedSelection(selection.view.name, "", names, selection.alias_name, keys, selection.renames)


def _is_whole(snapshot: RegistrySnapshot, run: Sequence[Column]) -> bool:
    """Whether columns are all features of the version that they are of."""
    names = snapshot.any_view(run[0].view).version(run[0].version).view.feature_names
    return tuple(column.name for column in run) == names and len({column.version for column in run}) == 1


def as_long_as(selection: PinnedSelection, run: Sequence[Column]) -> PinnedSelection:
    """A star's selection with the columns alone that it had when its list was expanded, as far as they are there."""
    kept = tuple(column.name for column in run if column.name in selection.names)
    return selection.only(kept) if kept else selection


def _as_stored(item: Any, stored: Sequence[Column], at: int) -> Any:
    """A text reference with the version that stands at its place in a stored list; anything else as it is."""
    if not isinstance(item, str) or at >= len(stored):
        return item
    reference, column = parse_reference(item), stored[at]
    if reference.version is not None or reference.feature is None or reference.name != column.view:
        return item
    return str(Reference(column.view, column.version, reference.feature))
