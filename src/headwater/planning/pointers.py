"""Pointers: when a version may go live, be promoted, rolled back from or retired, and the stages that do it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from headwater.clock import EPOCH, from_micros
from headwater.errors import ChangeRefused, FeatureViewNotFound, brief, nearest
from headwater.planning.advance import advance
from headwater.planning.numbering import AnyRecord, AnyVersion
from headwater.planning.pins import pinned_by
from headwater.planning.snapshot import RegistrySnapshot, ServiceVersion, ViewRecord, ViewVersion
from headwater.planning.stages import Action, Kind, Stage
from headwater.planning.watermark import Watermark

Watermarks = Mapping[tuple[str, str], Watermark]
"""(view, version) → how far it is materialized, as the online store tells; one that is missing never was."""


@dataclass(frozen=True)
class GoingLive:
    """What goes live by itself, and why the rest waits.

    Attributes:
        stages: pointers that move, and versions that are retired then.
        reasons: (kind, name) → why its waiting version is not live yet.
    """

    stages: tuple[Stage, ...]
    reasons: Mapping[tuple[Kind, str], str]


def find(snapshot: RegistrySnapshot, name: str) -> tuple[Kind, AnyRecord]:
    """The view or service of a name.

    Raises:
        FeatureViewNotFound: with the nearest name of either.
    """
    if isinstance(name, str):
        if name in snapshot.views:
            return Kind.VIEW, snapshot.views[name]
        if name in snapshot.services:
            return Kind.SERVICE, snapshot.services[name]
    hint = nearest(name, [*snapshot.views, *snapshot.services])
    raise FeatureViewNotFound(f"no feature view or feature service {brief(name)} is registered{hint}")


def behind(snapshot: RegistrySnapshot, version: AnyVersion, marks: Watermarks) -> str | None:
    """Why a version is not materialized as far as the live one; None where it is.

    A service's version is as far where each version that it pins is as far as the live version of its view. Where the
    live version was never materialized, the offline log's head when the version was applied counts instead.
    """
    if isinstance(version, ServiceVersion):
        for selection in version.selections:
            pinned = snapshot.view(selection.view).version(selection.version)
            reason = _view_behind(snapshot.view(selection.view), pinned, marks)
            if reason is not None:
                return f"{selection.view} {reason}"
        return None
    return _view_behind(snapshot.view(version.view.name), version, marks)


def _view_behind(record: ViewRecord, version: ViewVersion, marks: Watermarks) -> str | None:
    if record.live is None or version.version == record.live:
        return None
    own = marks.get((record.name, version.version))
    live = marks.get((record.name, record.live))
    if (own or Watermark()).reaches(live or Watermark(position=version.log_head)):
        return None
    return f"{version.version} is materialized {_reach(own)}, the live {record.live} {_reach(live)}"


def _reach(mark: Watermark | None) -> str:
    if mark is None:
        return "not at all"
    when = max(mark.end, -(2**55))
    text = "from the log alone" if when < -(2**54) else f"up to {from_micros(when):%Y-%m-%d %H:%M:%S.%f} UTC"
    return f"{text} (log position {mark.position})"


def promote(
    snapshot: RegistrySnapshot, name: str, version: str, marks: Watermarks, *, force: bool
) -> tuple[Stage, ...]:
    """The stages that make a version live.

    Raises:
        NotFound: no such view, service or version.
        ChangeRefused: it is retired, or not materialized as far as the live one and not forced.
    """
    kind, record = find(snapshot, name)
    found = record.version("" if version is None else version)
    if found.retired_at is not None:
        raise ChangeRefused(
            f"{kind.words} {name!r}: version {version} is retired, it is fed no longer; apply it as a new one"
        )
    if record.live == version:
        return ()
    reason = None if force else behind(snapshot, found, marks)
    if reason is not None:
        raise ChangeRefused(
            f"{kind.words} {name!r}: version {version} is not materialized as far as the live one: {reason}; "
            "run materialize first, or force it"
        )
    stage = Stage(Action.PROMOTE, kind, name, version, base=record.live, live=True)
    return (stage, *_retiring(snapshot, stage))


def roll_back(snapshot: RegistrySnapshot, name: str) -> tuple[Stage, ...]:
    """The stages that make the version before the live one live again.

    Raises:
        NotFound: no such view or service.
        ChangeRefused: there is none before it.
    """
    kind, record = find(snapshot, name)
    if record.previous is None:
        others = [v.version for v in record.fed if v.version != record.live]
        hint = f"; promote one of {', '.join(others)}" if others else ""
        raise ChangeRefused(f"{kind.words} {name!r}: no version was live before {record.live}{hint}")
    return (Stage(Action.ROLL_BACK, kind, name, record.previous, base=record.live, live=True),)


def retire(snapshot: RegistrySnapshot, name: str, version: str) -> tuple[Stage, ...]:
    """The stages that end the feeding of a version.

    Raises:
        NotFound: no such view, service or version.
        ChangeRefused: it is live, or pinned by services that are named.
    """
    kind, record = find(snapshot, name)
    found = record.version("" if version is None else version)
    if found.retired_at is not None:
        return ()
    if record.live == version:
        raise ChangeRefused(f"{kind.words} {name!r}: version {version} is live; promote another first")
    users = pinned_by(snapshot).get((name, version), ()) if kind is Kind.VIEW else ()
    if users:
        raise ChangeRefused(
            f"{kind.words} {name!r}: version {version} is pinned by {', '.join(users)}; retire those first"
        )
    return (Stage(Action.RETIRE, kind, name, version),)


def go_live(snapshot: RegistrySnapshot, marks: Watermarks) -> GoingLive:
    """What waits and is materialized as far as the live version now: views first, then the services that pin them."""
    stages: list[Stage] = []
    reasons: dict[tuple[Kind, str], str] = {}
    after = snapshot
    for kind in (Kind.VIEW, Kind.SERVICE):
        records: Mapping[str, AnyRecord] = after.views if kind is Kind.VIEW else after.services
        for name, record in records.items():
            if record.waiting is None:
                continue
            version = record.version(record.waiting)
            reason = _never(after, version, marks) or behind(after, version, marks)
            if reason is not None:
                reasons[kind, name] = reason
                continue
            stage = Stage(Action.GO_LIVE, kind, name, record.waiting, base=record.live, live=True)
            stages.append(stage)
            after = advance(after, [stage], now=EPOCH)
    stages += superseded(after) if stages else ()
    return GoingLive(tuple(stages), reasons)


def _never(snapshot: RegistrySnapshot, version: AnyVersion, marks: Watermarks) -> str | None:
    """A version goes live by itself only once a run has filled it, even where the live one never was."""
    if isinstance(version, ViewVersion):
        missing = (version.view.name, version.version) not in marks
        return f"{version.version} is not materialized" if missing else None
    for s in version.selections:
        if snapshot.view(s.view).live != s.version and (s.view, s.version) not in marks:
            return f"{s.view} {s.version} is not materialized"
    return None


def _retiring(snapshot: RegistrySnapshot, stage: Stage) -> tuple[Stage, ...]:
    return tuple(superseded(advance(snapshot, [stage], now=EPOCH)))


def superseded(snapshot: RegistrySnapshot) -> Iterator[Stage]:
    """Automatic versions older than the live one and the one before it, that nothing pins: they are retired."""
    after = snapshot
    for name, service in snapshot.services.items():
        for old in _older(service):
            stage = _retired(Kind.SERVICE, name, old)
            after = advance(after, [stage], now=EPOCH)
            yield stage
    pins = pinned_by(after)
    for name, view in after.views.items():
        yield from (_retired(Kind.VIEW, name, old) for old in _older(view) if (name, old.version) not in pins)


def _older(record: AnyRecord) -> list[AnyVersion]:
    if record.live is None:
        return []
    kept = (record.live, record.previous, record.waiting)
    live = record.versions[record.live]
    return [v for v in record.fed if v.automatic and v.version not in kept and v.revision < live.revision]


def _retired(kind: Kind, name: str, version: AnyVersion) -> Stage:
    return Stage(Action.RETIRE, kind, name, version.version, details=("older than the live one and the one before it",))
