"""Drafts: what a plan gathers while definitions are compared with the registry, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from headwater.definitions.view import FeatureView
from headwater.errors import HeadwaterError, VersionConflict
from headwater.planning.advance import advance
from headwater.planning.numbering import Choice
from headwater.planning.plan import Unchanged
from headwater.planning.service_reads import has_caught_up
from headwater.planning.snapshot import AnyRecord, AnyVersion, OnDemandVersion, RegistrySnapshot, ServiceVersion
from headwater.planning.stages import Action, Kind, Stage


@dataclass
class Draft:
    """What a plan gathers.

    Attributes:
        before: the registry.
        after: the snapshot that the stages so far lead to.
        now: what the plan takes for the time of the change (UTC).
        stages, unchanged: the plan so far.
        problems, conflicts: what is wrong, told together.
        chosen: view → the version that its definition is.
        kept: view → what a definition keeps of how an earlier release read its source.
    """

    before: RegistrySnapshot
    after: RegistrySnapshot
    now: datetime
    stages: list[Stage] = field(default_factory=list)
    unchanged: list[Unchanged] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    chosen: dict[str, str] = field(default_factory=dict)
    kept: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add(self, *stages: Stage) -> None:
        """Take stages."""
        self.stages += stages
        self.after = replace(advance(self.after, stages, now=self.now), revision=self.before.revision)

    def attempt(self, step: Callable[[Draft, Any], None], definition: Any) -> None:
        """Plan one definition; what is wrong with it is reported with everything else."""
        try:
            step(self, definition)
        except VersionConflict as conflict:
            self.conflicts.append(str(conflict))
        except HeadwaterError as bad:
            self.problems.append(f"{where(definition)}: {bad}")

    def add_version(
        self,
        kind: Kind,
        record: AnyRecord | None,
        choice: Choice,
        definition: FeatureView | OnDemandVersion | ServiceVersion,
        *,
        automatic: bool,
        details: tuple[str, ...],
    ) -> None:
        """Take a new version: the first is live at once; a later one of a view that `apply` numbers once caught up.

        An on-demand view has no rows: it has caught up where what it reads has.
        """
        first = record is None or record.live is None
        by_itself = automatic and kind is not Kind.SERVICE
        ready = isinstance(definition, OnDemandVersion) and has_caught_up(self.after, definition)
        live = first or (by_itself and ready)
        stage = Stage(
            Action.ADD if record is None else Action.CHANGE,
            kind,
            definition.name,
            choice.version,
            details=(*choice.difference.lines, *details),
            definition=definition,
            base=None if first or choice.base is None else choice.base.version,
            bump=None if first else choice.difference.bump,
            automatic=automatic,
            live=live,
            waits=not live and by_itself,
        )
        self.add(stage)
        if record is not None and record.waiting is not None and automatic and not stage.waits and not stage.live:
            # another one, asked to go live with `apply --promote`, is not what the definitions say any more
            self.add(Stage(Action.AWAIT, kind, definition.name, record.live, base=record.waiting))

    def found(
        self,
        kind: Kind,
        record: AnyRecord,
        version: AnyVersion,
        stages: list[Stage],
        *,
        automatic: bool,
        note: str = "",
    ) -> None:
        """Take the stages of a registered version, or say that it is unchanged and why it is not live."""
        stages = [*self._pointer(kind, record, version, automatic), *stages]
        if stages:
            self.add(*stages)
            return
        notes = [note] if note else []
        if version.version == record.waiting:
            notes.append(f"goes live after the next 'headwater materialize', once it has read as far as {record.live}")
        elif version.version != record.live:
            command = f"headwater promote {record.name} {version.version}"
            notes.append(f"{record.live or 'no version'} is live; '{command}' makes this one live")
        self.unchanged.append(Unchanged(kind, record.name, version.version, "; ".join(notes)))

    def _pointer(self, kind: Kind, record: AnyRecord, found: AnyVersion, automatic: bool) -> list[Stage]:
        """Only what the definitions say now goes live by itself, and no version that was rolled back from.

        At once where none is live: there is none to catch up with.
        """
        if record.live is None and not found.held:
            return [Stage(Action.GO_LIVE, kind, record.name, found.version, live=True)]
        by_itself = automatic and found.automatic and kind is not Kind.SERVICE
        wanted = found.version if (by_itself or found.version == record.waiting) and not found.held else None
        if found.version == record.live:
            wanted = None
        elif not automatic and wanted is None:
            return []
        if wanted is not None and isinstance(found, OnDemandVersion) and has_caught_up(self.after, found):
            return [Stage(Action.GO_LIVE, kind, record.name, wanted, base=record.live, live=True)]
        if wanted == record.waiting:
            return []
        version = wanted or record.live
        base = record.live if wanted else record.waiting
        return [Stage(Action.AWAIT, kind, record.name, version, base=base, waits=wanted is not None)]


def where(definition: Any) -> str:
    """The place and name of a definition, for errors."""
    place = f"{definition.place} " if definition.place else ""
    return f"{place}{definition.name}"
