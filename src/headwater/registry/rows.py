"""Rows: registry snapshots read from the tables, in plain SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from headwater.clock import from_micros
from headwater.database.plain import Reads
from headwater.deferred import deferred
from headwater.definitions.entity import Entity
from headwater.definitions.serialize import FORMAT, entity_from_dict, view_from_dict
from headwater.errors import FormatError, HeadwaterError, brief, printable
from headwater.planning.snapshot import (
    Kind,
    ModelVersion,
    OnDemandRecord,
    OnDemandVersion,
    RegistrySnapshot,
    ServiceRecord,
    ServiceVersion,
    ViewRecord,
    ViewVersion,
    version_key,
)
from headwater.registry.selections import selection_from_dict
from headwater.values import Value

if TYPE_CHECKING:
    from headwater.registry import on_demand_rows
else:
    on_demand_rows = deferred("headwater.registry.on_demand_rows")

_DAMAGE = (
    *(HeadwaterError, ArithmeticError, AssertionError, AttributeError),
    *(LookupError, TypeError, ValueError, RecursionError),
)
"""What comes of reading a row that is not as it was written."""


_VERSIONS = (
    "SELECT kind, name, version, definition, automatic, held, log_head, revision, created_at, updated_at, retired_at, "
    "caught_up, reads FROM registry_version"
)
_MODELS = (
    "SELECT name, version, service, service_version, uri, training_set, logged_at FROM registry_model "
    "ORDER BY name, version"
)
_POINTERS = "SELECT kind, name, live, previous, waiting, written FROM registry_pointer ORDER BY name"


def read_revision(reads: Reads) -> int:
    """The newest revision; 0 where nothing was applied yet."""
    return reads.rows("SELECT max(revision) AS newest FROM registry_revision")[0].newest or 0


class Newest(Value, frozen=True):
    """The newest revision: its number, and when it was taken (microseconds), which no other one has.

    A database that was restored and changed again may have the number of another revision.
    """

    revision: int = 0
    at: int = 0


def read_newest(reads: Reads) -> Newest:
    """The newest revision; number 0 where nothing was applied yet."""
    newest = reads.rows("SELECT revision, at FROM registry_revision ORDER BY revision DESC LIMIT 1")
    return Newest(newest[0].revision, newest[0].at) if newest else Newest()


def read_snapshot(reads: Reads, project: str, known: RegistrySnapshot | None = None) -> RegistrySnapshot:
    """Everything that is registered, as one transaction sees it.

    Args:
        reads: the transaction.
        project: the project's name.
        known: a snapshot of the same database read before, the answer where its revision is still the newest.
    """
    revision = read_revision(reads)
    if known is not None and known.revision == revision:
        return known
    found: dict[str, Entity] = {}
    for row in reads.rows("SELECT name, definition FROM registry_entity ORDER BY name"):
        with sound(f"entity {brief(row.name)}"):
            found[row.name] = entity_from_dict(json_of(row.definition))
    kinds: dict[Kind, dict[str, dict[str, Any]]] = {kind: {} for kind in Kind}
    for row in reads.rows(_VERSIONS):
        with sound(f"{brief(row.kind)} {brief(row.name)}, version {brief(row.version)}"):
            kind = Kind(row.kind)
            kinds[kind].setdefault(row.name, {})[row.version] = _VERSION_OF[kind](row)
    with sound("what views read of others"):
        _link(kinds[Kind.VIEW], kinds[Kind.ON_DEMAND])
    views: dict[str, ViewRecord] = {}
    services: dict[str, ServiceRecord] = {}
    on_demand: dict[str, OnDemandRecord] = {}
    for row in reads.rows(_POINTERS):
        where = (row.live, row.previous, row.waiting)
        with sound(f"the pointer of {brief(row.kind)} {brief(row.name)}"):
            kind = Kind(row.kind)
            versions = _ordered(kinds[kind][row.name])
            if kind is Kind.VIEW:
                views[row.name] = ViewRecord(row.name, versions, *where, bool(row.written))
            elif kind is Kind.ON_DEMAND:
                on_demand[row.name] = OnDemandRecord(row.name, versions, *where)
            else:
                services[row.name] = ServiceRecord(row.name, versions, *where)
    return RegistrySnapshot(project, revision, found, views, services, on_demand, _models(reads))


def _models(reads: Reads) -> dict[str, dict[int, ModelVersion]]:
    found: dict[str, dict[int, ModelVersion]] = {}
    for row in reads.rows(_MODELS):
        made = (row.name, row.version, row.service, row.service_version, row.uri, row.training_set)
        with sound(f"model {brief(row.name)}, version {brief(row.version)}"):
            found.setdefault(row.name, {})[row.version] = ModelVersion(*made, from_micros(row.logged_at))
    return found


def _link(*kinds: dict[str, dict[str, Any]]) -> None:
    """Give versions that read others the versions that they were made from, those first that read none."""
    known = {(name, number): v for views in kinds for name, own in views.items() for number, v in own.items()}
    linked: dict[tuple[str, str], Any] = {}

    def link(pair: tuple[str, str]) -> Any:
        if pair not in linked:
            version = known[pair]
            upstream = {(s.view, s.version): link((s.view, s.version)) for s in version.selections}
            linked[pair] = replace(version, upstream=upstream) if upstream else version
        return linked[pair]

    for views in kinds:
        for name, own in views.items():
            for number in own:
                own[number] = link((name, number))


@contextmanager
def sound(what: str) -> Iterator[None]:
    """Reading one stored row.

    Raises:
        FormatError: it is damaged, or a newer headwater wrote it.
    """
    try:
        yield
    except FormatError:
        raise
    except _DAMAGE as bad:
        reason = printable(f"{type(bad).__name__}: {bad}"[:200])
        raise FormatError(f"registry: {what} is damaged ({reason}); restore the registry from its backup") from bad


def json_of(text: Any) -> Any:
    """What a stored text says.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return msgspec.json.decode(text)
    except msgspec.MsgspecError as bad:
        raise ValueError(str(bad)) from bad


def _ordered(found: dict[str, Any]) -> dict[str, Any]:
    return {version: found[version] for version in sorted(found, key=version_key)}


def _view_version(row: Any) -> ViewVersion:
    view = view_from_dict(json_of(row.definition))
    return ViewVersion(view, log_head=row.log_head, caught_up=bool(row.caught_up), reads=_reads(row), **_common(row))


def _on_demand_version(row: Any) -> OnDemandVersion:
    view, inputs = on_demand_rows.on_demand_from_dict(json_of(row.definition))
    return OnDemandVersion(view, inputs, caught_up=bool(row.caught_up), reads=_reads(row), **_common(row))


def _reads(row: Any) -> dict[tuple[str, str], str]:
    return {(view, made_from): read for view, made_from, read in json_of(row.reads or "[]")}


def _service_version(row: Any) -> ServiceVersion:
    data = json_of(row.definition)
    if data["format"] > FORMAT:
        raise FormatError(f"feature service {row.name!r} has format {data['format']}; this headwater reads {FORMAT}")
    selections = tuple(map(selection_from_dict, data["selections"]))
    return ServiceVersion(
        row.name,
        row.version,
        selections,
        full_names=data["full_names"],
        owner=data["owner"],
        description=data["description"],
        tags=data["tags"],
        text=None if data.get("text") is None else tuple(data["text"]),
        reads=_reads(row),
        **_common(row),
    )


_VERSION_OF: dict[Kind, Callable[[Any], Any]] = {
    Kind.VIEW: _view_version,
    Kind.ON_DEMAND: _on_demand_version,
    Kind.SERVICE: _service_version,
}


def _common(row: Any) -> dict[str, Any]:
    return {
        "automatic": bool(row.automatic),
        "held": bool(row.held),
        "revision": row.revision,
        "created_at": from_micros(row.created_at),
        "updated_at": from_micros(row.updated_at),
        "retired_at": None if row.retired_at is None else from_micros(row.retired_at),
    }
