"""Stages: the steps that a plan shows and that `apply`, `promote`, `rollback` and `retire` run, each a value."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from headwater.definitions.entity import Entity
from headwater.definitions.view import FeatureView
from headwater.html_tables import below_each_other, html_table
from headwater.planning.differences import Bump
from headwater.planning.snapshot import Kind as Kind
from headwater.planning.snapshot import OnDemandVersion, ServiceVersion


class Action(enum.StrEnum):
    """What a stage does to the registry."""

    ADD = "add"
    """An entity, or the first version of a view or service."""
    CHANGE = "change"
    """A new version of a view or service; an entity with other join keys."""
    UPDATE = "update"
    """Changed in place, under the same version."""
    MOVE = "move"
    """Changed in place with another version: its data moved with that of the one that the definition is."""
    AWAIT = "await"
    """A version that is registered already goes live by itself once it is materialized as far as the live one."""
    REMOVE = "remove"
    """An entity that the project's files no longer have."""
    RETIRE = "retire"
    """A version is no longer updated."""
    WRITE = "first write"
    """A view is written to for the first time."""
    CATCH_UP = "caught up"
    """A version that is not live is materialized as far as the live one: services may read it."""
    LOSE_ROWS = "rows lost"
    """The online store has lost the rows of a version that is not live: services may not read it until it caught up."""
    GO_LIVE = "go live"
    """An automatic version has caught up with the live one."""
    PROMOTE = "promote"
    """Somebody made a version live."""
    ROLL_BACK = "roll back"
    """Somebody made the version before it live again."""


SIGNS = {
    Action.ADD: "+",
    Action.CHANGE: "~",
    Action.UPDATE: "~",
    Action.MOVE: "~",
    Action.AWAIT: "»",
    Action.REMOVE: "-",
    Action.RETIRE: "-",
    Action.WRITE: "»",
    Action.CATCH_UP: "»",
    Action.LOSE_ROWS: "!",
    Action.GO_LIVE: "»",
    Action.PROMOTE: "»",
    Action.ROLL_BACK: "«",
}


@dataclass(frozen=True)
class Stage:
    """One step.

    Attributes:
        action: what it does.
        kind: to what.
        name: the entity, view or service.
        version: the version it writes or moves a pointer to; None for an entity.
        details: one line for each difference, or the reason.
        definition: what it writes: an entity, a view with its version, a version of an on-demand view or a service;
            None for a pointer.
        base: the version that it is compared with, or that was live before.
        bump: the bump that the difference needs, for a new version.
        automatic: whether `apply` numbered it.
        live: whether it is live at once.
        waits: whether it goes live by itself once it is materialized as far as the live one.
    """

    action: Action
    kind: Kind
    name: str
    version: str | None = None
    details: tuple[str, ...] = ()
    definition: Entity | FeatureView | OnDemandVersion | ServiceVersion | None = None
    base: str | None = None
    bump: Bump | None = None
    automatic: bool = False
    live: bool = False
    waits: bool = False

    @property
    def title(self) -> str:
        """What happens, on one line."""
        match self.action:
            case Action.ADD:
                return f"added {self.version}, live" if self.version else "added"
            case Action.CHANGE if self.version is None:
                return "changed"
            case Action.CHANGE:
                bump = f" ({self.bump})" if self.bump else ""
                return f"{self.base or 'retired'} → {self.version}{bump}, {self._when_live}"
            case Action.UPDATE:
                return f"{self.version} changed in place" if self.version else "changed in place"
            case Action.MOVE:
                return f"{self.version} changed in place, too"
            case Action.AWAIT if self.waits:
                return f"{self.base} → {self.version}, {self._when_live}"
            case Action.AWAIT:
                return f"back to {self.version}; {self.base} is no longer set to go live"
            case Action.REMOVE:
                return "removed"
            case Action.RETIRE:
                return f"{self.version} retired"
            case Action.WRITE:
                return "first write"
            case Action.CATCH_UP:
                return f"{self.version} has caught up with the live {self.base}"
            case Action.LOSE_ROWS:
                return f"{self.version} has lost its online rows, and has not been refilled yet"
            case Action.GO_LIVE | Action.PROMOTE:
                return f"{self.base or 'none'} → {self.version}, live"
            case Action.ROLL_BACK:
                return f"{self.base} → {self.version}, live again"

    @property
    def _when_live(self) -> str:
        if self.live:
            return "live"
        if self.waits:
            return "live after the next 'headwater materialize'"
        return f"live with 'headwater promote {self.name} {self.version}'"

    def __str__(self) -> str:
        lines = [f"{SIGNS[self.action]} {self.kind.words} {self.name}: {self.title}"]
        return "\n".join([*lines, *(f"    {line}" for line in self.details)])

    def to_dict(self) -> dict[str, Any]:
        """The stage as plain data, for `--json` and the change log; without the definition.

        Returns:
            A dict that `json.dumps` accepts.
        """
        return {
            "action": str(self.action),
            "kind": str(self.kind),
            "name": self.name,
            "version": self.version,
            "base": self.base,
            "bump": None if self.bump is None else str(self.bump),
            "live": self.live,
            "waits": self.waits,
            "details": list(self.details),
        }


def stages_html(stages: Iterable[Stage], notes: Iterable[str] = ()) -> str:
    """The HTML form of stages, for notebooks; `notes` are paragraphs below."""
    rows = ((s.kind.words, s.name, s.title, below_each_other(s.details)) for s in stages)
    return html_table(("", "name", "change", "details"), rows, notes=notes)
