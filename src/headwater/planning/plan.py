"""Plan: the stages that an apply runs, and the registry revision that they were made on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from headwater.clock import EPOCH
from headwater.definitions.serialize import view_to_dict
from headwater.definitions.sources import reads_text
from headwater.definitions.view import FeatureView
from headwater.errors import RegistryConflict
from headwater.html_tables import paragraphs
from headwater.planning.snapshot import OnDemandVersion, ServiceVersion
from headwater.planning.stages import Kind, Stage, stages_html


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A definition that is registered as it is; `note` says why it is not live, or is still there."""

    kind: Kind
    name: str
    version: str | None = None
    note: str = ""

    def __str__(self) -> str:
        version = f" {self.version}" if self.version else ""
        return f"= {self.kind.words} {self.name}:{version} unchanged" + (f"; {self.note}" if self.note else "")


@dataclass(frozen=True, repr=False)
class Plan:
    """What `apply` does.

    Attributes:
        project: the project's name.
        revision: the registry revision that the plan was made on; apply refuses another.
        stages: the steps, in order.
        unchanged: what needs none.
        definitions: what it was made of; None: the project's files.
        removals: the views and services that are live and would be retired: `apply` wants a yes for them.
        warnings: what is not a reason to refuse, but good to know: files that lack a column, an unreadable source.
    """

    project: str
    revision: int
    stages: tuple[Stage, ...] = ()
    unchanged: tuple[Unchanged, ...] = ()
    warnings: tuple[str, ...] = ()
    removals: tuple[str, ...] = ()
    definitions: tuple[Any, ...] | None = field(default=None, compare=False)

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.stages)

    def has_same_stages(self, other: Plan) -> bool:
        """Whether two plans do the same, on whatever revisions.

        Args:
            other: another plan.

        Returns:
            True if both plans make the same changes, whatever registry revision they were made on.
        """
        return [*map(_content, self.stages)] == [*map(_content, other.stages)]

    @property
    def text_views(self) -> list[str]:
        """The views of new files of text, whose values `apply` reads."""
        views = [(stage.name, stage.definition) for stage in self.stages]
        return sorted(name for name, view in views if isinstance(view, FeatureView) and reads_text(view.source))

    def __str__(self) -> str:
        notes = [str(unchanged) for unchanged in self.unchanged if unchanged.note]
        rest = sum(not unchanged.note for unchanged in self.unchanged)
        summary = f"{len(self.stages)} change{'' if len(self.stages) == 1 else 's'}" if self.stages else "no changes"
        warnings = [f"! {warning}" for warning in self.warnings]
        if self.removals:
            warnings.append(
                f"! live and to be retired: {', '.join(self.removals)}; apply requires --allow-removals for that"
            )
        return "\n".join([*map(str, self.stages), *notes, *warnings, f"{summary}, {rest} unchanged"])

    def __repr__(self) -> str:
        return f"<Plan for {self.project} on revision {self.revision}: {str(self).rpartition(chr(10))[2]}>"

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data, as `headwater plan --json` prints it.

        Returns:
            A dict that `json.dumps` accepts.
        """
        return {
            "project": self.project,
            "revision": self.revision,
            "stages": [stage.to_dict() for stage in self.stages],
            "unchanged": [
                {"kind": str(u.kind), "name": u.name, "version": u.version, "note": u.note} for u in self.unchanged
            ],
            "warnings": list(self.warnings),
            "removals": list(self.removals),
        }

    def _repr_html_(self) -> str:
        return stages_html(self.stages, self.warnings) if self.stages else paragraphs([str(self), *self.warnings])


def _content(stage: Stage) -> tuple[Any, ...]:
    """What a stage does, when it is looked at again; a table of rows is not compared with another."""
    definition: Any = stage.definition
    if isinstance(definition, FeatureView):
        definition = view_to_dict(definition)
    elif isinstance(definition, ServiceVersion):
        definition = replace(definition, created_at=EPOCH, updated_at=EPOCH)
    elif isinstance(definition, OnDemandVersion):
        definition = replace(definition, created_at=EPOCH, updated_at=EPOCH, upstream={})
    return stage.to_dict(), definition


def check_same_plan(plan: Plan, again: Plan) -> None:
    """Refuse a plan that would be another one by now.

    Args:
        plan: made before.
        again: made now, of the same definitions or files.

    Raises:
        RegistryConflict: the registry, or what the files say, has changed.
    """
    if plan.revision != again.revision:
        raise RegistryConflict.since("the registry", plan.revision)
    if not plan.has_same_stages(again):
        raise RegistryConflict(
            "the definitions changed since this plan was made; nothing was changed: review a new plan, then apply"
        )
