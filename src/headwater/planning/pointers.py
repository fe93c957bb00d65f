"""Pointers: when a version may go live, be promoted, rolled back from or retired, and the stages that do it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from headwater.clock import EPOCH
from headwater.errors import ChangeRefused, FeatureViewNotFound, brief, nearest
from headwater.planning.advance import advance
from headwater.planning.catching_up import RETIRED_ROWS, Watermarks, behind, unreadable
from headwater.planning.dependencies import in_order
from headwater.planning.differences import Bump
from headwater.planning.numbering import base_of, next_version
from headwater.planning.plan import Plan
from headwater.planning.service_reads import columns_beyond, models_that_take, readers, same_columns
from headwater.planning.snapshot import (
    AnyRecord,
    AnyVersion,
    RegistrySnapshot,
    ServiceRecord,
    ServiceVersion,
    ViewVersion,
)
from headwater.planning.stages import Action, Kind, Stage


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
        if name in snapshot.on_demand:
            return Kind.ON_DEMAND, snapshot.on_demand[name]
    hint = nearest(name, [*snapshot.views, *snapshot.on_demand, *snapshot.services])
    raise FeatureViewNotFound(f"no feature view or feature service {brief(name)} is registered{hint}")


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
            f"{kind.words} {name!r}: version {version} is retired and no longer updated; re-apply it as a new version"
        )
    if record.live == version:
        return ()
    reason = None if force else behind(snapshot, found, marks)
    if reason is not None:
        raise ChangeRefused(
            f"{kind.words} {name!r}: version {version} has not caught up with the live version: {reason}; "
            f"run 'headwater materialize' first, or 'headwater promote {name} {version} --force'"
        )
    stage = Stage(Action.PROMOTE, kind, name, version, base=record.live, live=True)
    return (stage, *_retiring(snapshot, stage))


def request_promotion(snapshot: RegistrySnapshot, plan: Plan) -> tuple[Stage, ...]:
    """The stages by which what a plan names goes live as soon as it has caught up, without a `promote`.

    What was rolled back from stays as it is: only `promote` makes it live again.
    """
    own = [stage for stage in plan.stages if stage.action is not Action.MOVE]
    named = [(s.kind, s.name, s.version) for s in own] + [(u.kind, u.name, u.version) for u in plan.unchanged]
    stages: dict[tuple[Kind, str], Stage] = {}
    for kind, name, number in named:
        records: Mapping[str, AnyRecord] = {} if kind is Kind.ENTITY else _records(snapshot, kind)
        record = records.get(name)
        version = None if record is None or number is None else record.versions.get(number)
        if record is None or version is None or version.retired_at is not None or version.held:
            continue
        if number not in (record.live, record.waiting):
            stages[kind, name] = Stage(Action.AWAIT, kind, name, number, base=record.live, waits=True)
    return tuple(stages.values())


def _records(snapshot: RegistrySnapshot, kind: Kind) -> Mapping[str, AnyRecord]:
    named: dict[Kind, Mapping[str, AnyRecord]] = {
        Kind.VIEW: snapshot.views,
        Kind.ON_DEMAND: snapshot.on_demand,
        Kind.SERVICE: snapshot.services,
    }
    return named[kind]


@dataclass(frozen=True)
class PointerChange:
    """What `promote` or `rollback` did.

    Attributes:
        kind, name: the view or service.
        live: the version that is live now.
        left: the version that was live before; None where nothing changed.
        still_reading: the services that go on reading the version that was left, each with what to type.
    """

    kind: Kind
    name: str
    live: str
    left: str | None = None
    still_reading: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.kind.words} {self.name}: {self.live} is live", *self.still_reading])


def pointer_change(snapshot: RegistrySnapshot, name: str, stages: tuple[Stage, ...]) -> PointerChange:
    """What stages that moved a pointer did, on the registry after them."""
    kind, record = find(snapshot, name)
    moved = [stage for stage in stages if (stage.kind, stage.name) == (kind, name) and stage.live]
    left = moved[0].base if moved else None
    lines = _still_reading(snapshot, name, left, str(record.live)) if left and kind is not Kind.SERVICE else ()
    return PointerChange(kind, name, str(record.live), left, tuple(lines))


def _still_reading(snapshot: RegistrySnapshot, view: str, left: str, live: str) -> Iterator[str]:
    for reader in readers(snapshot).get((view, left), ()):
        name, _, number = reader.partition("@")
        stays = f"{name} {number} still reads {view} {left}"
        if name not in snapshot.services:
            yield f"{stays}, not the live {live}"
            continue
        record = snapshot.service(name)
        if number != record.live:
            yield f"{stays}, not the live {live}"
            continue
        others = [v for v in record.active if (view, live) in v.views_read and (view, left) not in v.views_read]
        if not others:
            yield f"{stays}, not the live {live}{_why_it_stays(snapshot, record.version(number), view, left, live)}"
            continue
        newest = max(others, key=lambda v: v.revision).version
        back = newest == record.previous
        command = f"headwater rollback {name}" if back else f"headwater promote {name} {newest}"
        go = "To go back there too" if back else f"To read the live {live}"
        yield f"{stays}. {go}: '{command}' ({newest} reads {view} {live})"


def _why_it_stays(snapshot: RegistrySnapshot, service: ServiceVersion, view: str, left: str, live: str) -> str:
    """Why no version of a service reads the live version of a view, and what to do about it."""
    record = snapshot.any_view(view)
    if same_columns(record.version(left), record.version(live), _names(service, view)):
        lacking = ", ".join(columns_beyond(record.version(live), record.version(left)))
        return f", which leaves out written rows that lack {lacking}"
    change = "" if _applies_as_another(snapshot, service, view, left) else "change its list, then "
    number = "VERSION" if change else _next_version(snapshot.service(service.name))
    return f": {change}'headwater apply', then 'headwater promote {service.name} {number}', makes it read {live}"


def _next_version(record: ServiceRecord) -> str:
    """The number that `apply` gives a list whose references mean other values; what the files must say is not known."""
    base = base_of(record)
    return next_version(base.version, Bump.MAJOR, record.versions) if base.automatic else "VERSION"


def _applies_as_another(snapshot: RegistrySnapshot, service: ServiceVersion, view: str, version: str) -> bool:
    """Whether the list of a service that reads a version of a view, as it is written, means another one by now."""
    record, names = snapshot.any_view(view), _names(service, view)
    by_name = service.text is None or any(item.startswith(f"{view}:") for item in service.text)
    there = set(names) <= set(record.version().view.features_by_name)
    return by_name and there and not same_columns(record.version(version), record.version(), names)


def _names(service: ServiceVersion, view: str) -> list[str]:
    return [name for s in service.selections if s.view == view for name in s.names]


def roll_back(snapshot: RegistrySnapshot, name: str) -> tuple[Stage, ...]:
    """The stages that make the version before the live one live again.

    Raises:
        NotFound: no such view or service.
        ChangeRefused: there is none before it.
    """
    kind, record = find(snapshot, name)
    if record.previous is None or record.live is None:
        others = [v.version for v in record.active if v.version != record.live]
        if record.live is None:
            hint = f"; promote one of {', '.join(others)}, or apply it again" if others else ": apply it again"
            raise ChangeRefused(f"{kind.words} {name!r}: no version is live{hint}")
        ways = ", ".join(f"{number} ('headwater promote {name} {number}')" for number in others)
        raise ChangeRefused(
            f"{kind.words} {name!r}: there is nothing to roll back to: no version was live before {record.live}"
            f"{f'; other versions: {ways}' if ways else ''}"
        )
    return (Stage(Action.ROLL_BACK, kind, name, record.previous, base=record.live, live=True),)


def way_out(snapshot: RegistrySnapshot, view: str, version: str) -> tuple[str, ...]:
    """The commands, in order, after which a version of a view is no longer updated; none where it has to be.

    A live service that reads it goes over to a later version of its own that does not: the newest that there is, else
    the one that the next `apply` makes.
    """
    record = snapshot.views.get(view) or snapshot.on_demand.get(view)
    if record is None or record.live in (None, version):
        return ()
    commands: list[str] = []
    apply = "headwater apply"
    for reader in readers(snapshot).get((view, version), ()):
        name, _, number = reader.partition("@")
        if name not in snapshot.services:
            before = way_out(snapshot, name, number)
            if not before:
                return ()
            commands += [command for command in before if command not in commands]
            continue
        service = snapshot.service(name)
        if service.live == number:
            others = [v for v in service.active if v.version != number and (view, version) not in v.views_read]
            if not others and not _applies_as_another(snapshot, service.version(number), view, version):
                return ()
            commands += [] if others or apply in commands else [apply]
            newest = max(others, key=lambda v: v.revision).version if others else _next_version(service)
            commands.append(f"headwater promote {name} {newest}")
        commands.append(f"headwater retire {name} {number}")
    return (*commands, f"headwater retire {view} {version}")


def retire(snapshot: RegistrySnapshot, name: str, version: str) -> tuple[Stage, ...]:
    """The stages that end the updates of a version.

    Raises:
        NotFound: no such view, service or version.
        ChangeRefused: it is live, or what services or models that are named read.
    """
    kind, record = find(snapshot, name)
    found = record.version("" if version is None else version)
    if found.retired_at is not None:
        return ()
    if record.live == version:
        others = [v.version for v in record.active if v.version != version]
        way = (
            f"promote another version first: {', '.join(others)}"
            if others
            else "there is no other version to promote; if it is no longer needed, remove it from the project's files: "
            "'headwater apply --allow-removals' retires it"
        )
        raise ChangeRefused(f"{kind.words} {name!r}: version {version} is live; {way}")
    users = readers(snapshot).get((name, version), ()) if kind is not Kind.SERVICE else ()
    if users:
        raise ChangeRefused(
            f"{kind.words} {name!r}: version {version} is read by {', '.join(users)}; retire those first"
        )
    models = models_that_take(snapshot).get((name, version), ())
    if models:
        what = f"what the models {', '.join(models)} take" if models[1:] else f"what the model {models[0]} takes"
        raise ChangeRefused(
            f"{kind.words} {name!r}: version {version} is {what}; the newest two of each model keep theirs: "
            "log newer ones first"
        )
    stage = Stage(Action.RETIRE, kind, name, version)
    return (stage, *_retiring(snapshot, stage))


def first_write(snapshot: RegistrySnapshot, view: str) -> tuple[Stage, ...]:
    """The stages of a view's first write; none where it was written to before."""
    return () if snapshot.view(view).written else (Stage(Action.WRITE, Kind.VIEW, view),)


def go_live(snapshot: RegistrySnapshot, marks: Watermarks, now: datetime = EPOCH) -> GoingLive:
    """What is materialized as far as the live version now: views that go live by themselves, other versions that have
    caught up, then the services that wait for them.

    Args:
        snapshot: the registry.
        marks: how far versions are materialized.
        now: of versions that were retired so long before that their rows were removed, nothing is said.
    """
    stages: list[Stage] = []
    reasons: dict[tuple[Kind, str], str] = {}
    after = snapshot
    for kind, names in _by_kind(snapshot):
        for name in names:
            record = _records(after, kind)[name]
            if record.waiting is None:
                continue
            version = record.version(record.waiting)
            reason = _never(version, marks) or behind(after, version, marks)
            if reason is not None:
                reasons[kind, name] = reason
                continue
            stage = Stage(Action.GO_LIVE, kind, name, record.waiting, base=record.live, live=True)
            stages.append(stage)
            after = advance(after, [stage], now=EPOCH)
        if kind is not Kind.SERVICE:
            caught_up = tuple(_caught_up(after, marks, names, now))
            stages += caught_up
            after = advance(after, caught_up, now=EPOCH)
    stages += superseded(after)
    return GoingLive(tuple(stages), reasons)


def _by_kind(snapshot: RegistrySnapshot) -> Iterator[tuple[Kind, tuple[str, ...]]]:
    """The kinds of what goes live, each after what it reads: on-demand views one by one, in order of what they read."""
    yield Kind.VIEW, tuple(snapshot.views)
    for name in computed_in_order(snapshot):
        yield Kind.ON_DEMAND, (name,)
    yield Kind.SERVICE, tuple(snapshot.services)


def computed_in_order(snapshot: RegistrySnapshot) -> list[str]:
    """The on-demand views, each after those that any active version of it reads."""
    reads = {
        name: [s.view for version in record.active for s in version.selections if s.view in snapshot.on_demand]
        for name, record in snapshot.on_demand.items()
    }
    return in_order(snapshot.on_demand, reads)


def _caught_up(snapshot: RegistrySnapshot, marks: Watermarks, names: Iterable[str], now: datetime) -> Iterator[Stage]:
    """Versions that are not live and are materialized as far as the live one now, or hold no rows any more.

    The rows of those that were retired a moment ago are still read; no run fills them again.
    """
    for name in names:
        record = snapshot.any_view(name)
        kind = Kind.VIEW if name in snapshot.views else Kind.ON_DEMAND
        for version in record.versions.values():
            retired = version.retired_at
            if retired is not None and (kind is Kind.ON_DEMAND or retired + RETIRED_ROWS <= now):
                continue
            if version.caught_up and version.version != record.live and unreadable(snapshot, record, version, marks):
                yield Stage(Action.LOSE_ROWS, kind, name, version.version, base=record.live)
            elif retired is None and not (
                version.caught_up or _never(version, marks) or behind(snapshot, version, marks)
            ):
                yield Stage(Action.CATCH_UP, kind, name, version.version, base=record.live)


def _never(version: AnyVersion, marks: Watermarks) -> str | None:
    """A version goes live by itself only once a run has filled it, even where the live one never was."""
    if isinstance(version, ViewVersion) and (version.view.name, version.version) not in marks:
        return f"{version.version} is not materialized"
    return None


def _retiring(snapshot: RegistrySnapshot, stage: Stage) -> tuple[Stage, ...]:
    return tuple(superseded(advance(snapshot, [stage], now=EPOCH)))


def superseded(snapshot: RegistrySnapshot) -> Iterator[Stage]:
    """Automatic versions older than the live one and the one before it, that nothing reads: they are retired."""
    after = snapshot
    taken = models_that_take(snapshot)
    for name, service in snapshot.services.items():
        for old in _older(service):
            if (name, old.version) in taken:
                continue
            stage = _retired(Kind.SERVICE, name, old)
            after = advance(after, [stage], now=EPOCH)
            yield stage
    # what reads others goes first, since only then does nothing read those any more
    while True:
        read = readers(after)
        stages = [
            _retired(kind, name, old)
            for kind in (Kind.ON_DEMAND, Kind.VIEW)
            for name, record in _records(after, kind).items()
            for old in _older(record)
            if (name, old.version) not in read
        ]
        if not stages:
            return
        yield from stages
        after = advance(after, stages, now=EPOCH)


def _older(record: AnyRecord) -> list[AnyVersion]:
    if record.live is None:
        return []
    kept = (record.live, record.previous, record.waiting)
    live = record.versions[record.live]
    return [v for v in record.active if v.automatic and v.version not in kept and v.revision < live.revision]


def _retired(kind: Kind, name: str, version: AnyVersion) -> Stage:
    return Stage(Action.RETIRE, kind, name, version.version, details=("older than the live one and the one before it",))
