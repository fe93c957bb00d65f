"""What a check of a training set came to."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headwater.html_tables import html_table


class TrainingSetVerdict(enum.StrEnum):
    """What a check of a training set came to."""

    SAME = "same"
    DIFFERENT = "different"
    NOT_REBUILT = "not rebuilt"
    DAMAGED = "damaged"


class InputChangeKind(enum.StrEnum):
    """What of a training set's inputs is other than it was when the set was saved."""

    FILE_REPLACED = "file replaced"
    FILE_GONE = "file gone"
    FILE_ADDED = "file added"
    ROWS_ADDED = "rows added"
    LOG_ERASED = "log rows erased"
    LOG_LOST = "log rows lost"
    OTHER_LOG = "another log"
    DEFINITION_GONE = "definition gone"
    DEFINITION = "definition changed"
    ENTITIES = "entities"
    SOURCE = "source not readable"


@dataclass(frozen=True)
class InputChange:
    """Something that a training set was made of and that is another by now.

    Attributes:
        view: the view, by its label in the set; empty where it concerns all.
        kind: what happened to it.
        detail: of which file, and how far.
    """

    view: str
    kind: InputChangeKind
    detail: str

    def __str__(self) -> str:
        return f"{f'view {self.view}: ' if self.view else ''}{self.kind}: {self.detail}"


@dataclass(frozen=True)
class ChangedColumn:
    """A column that comes out otherwise today.

    Attributes:
        name: the column's.
        view: the label of its view.
        rows: in how many rows.
        examples: the first of them: the row's number (the first is 0), the saved value and today's.
    """

    name: str
    view: str
    rows: int
    examples: tuple[tuple[int, Any, Any], ...] = ()

    def __str__(self) -> str:
        first = f", first in row {self.examples[0][0]}: {self.examples[0][1]!r}, now {self.examples[0][2]!r}"
        return f"{self.name}: {self.rows:,} row{'' if self.rows == 1 else 's'}{first if self.examples else ''}"


@dataclass(frozen=True, repr=False)
class TrainingSetReport:
    """What a check of a training set came to.

    Attributes:
        name, version: the set's.
        verdict: `same`: rebuilt, every value is the saved one; `different`: some are not; `not rebuilt`: some columns
            or all could not be; `damaged`: the set's own files are not what was saved.
        rows: rows of the set.
        erased: rows that were taken out of the set since, for their keys were purged.
        purged: rows still in it whose keys were purged; they are not compared: this is a copy that no erase reached, or
            the erase is pending.
        different_rows: rows in which at least one value is another.
        columns: the columns with such values.
        rounded: values that differ by no more than the rounding of floating-point sums.
        changes: what of its inputs is other than it was, whether or not a value is another for it.
        not_rebuilt: column → why it could not be rebuilt.
        damage: what is wrong with the set's own files; empty: nothing.
        libraries: package → version then and version now, of those that differ.
    """

    name: str
    version: int
    verdict: TrainingSetVerdict
    rows: int
    erased: int = 0
    purged: int = 0
    different_rows: int = 0
    columns: tuple[ChangedColumn, ...] = ()
    rounded: int = 0
    changes: tuple[InputChange, ...] = ()
    not_rebuilt: Mapping[str, str] = field(default_factory=dict)
    damage: str = ""
    libraries: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def same(self) -> bool:
        """Whether the set was rebuilt and every value is the saved one."""
        return self.verdict is TrainingSetVerdict.SAME

    @property
    def notes(self) -> tuple[str, ...]:
        """Everything that somebody should know, a line each."""
        lines = [self.damage] if self.damage else []
        lines += [f"not rebuilt: {name}: {why}" for name, why in self.not_rebuilt.items()]
        lines += map(str, self.columns)
        lines += map(str, self.changes)
        if self.erased:
            lines.append(f"erased: {self.erased:,} row{'' if self.erased == 1 else 's'}, for their keys were purged")
        if self.purged:
            verb = "row of purged keys is" if self.purged == 1 else "rows of purged keys are"
            lines.append(
                f"{self.purged:,} {verb} still in this copy: the next materialize or worker erases what is in the "
                "project's own folder; remove other copies"
            )
        if self.columns:
            lines += [f"{name} {then} then, {now} now" for name, (then, now) in self.libraries.items()]
        return tuple(lines)

    def __str__(self) -> str:
        return "\n  ".join([f"{self.name} {self.version}: {self._said}", *self.notes])

    def __repr__(self) -> str:
        return f"<TrainingSetReport {self.name} {self.version}: {self._said}>"

    @property
    def _said(self) -> str:
        rows = f"{self.rows:,} row{'' if self.rows == 1 else 's'}"
        match self.verdict:
            case TrainingSetVerdict.SAME:
                return f"the same when rebuilt ({rows})"
            case TrainingSetVerdict.DIFFERENT:
                return f"different when rebuilt ({self.different_rows:,} of {rows})"
            case TrainingSetVerdict.NOT_REBUILT:
                return f"cannot be rebuilt ({rows})"
        return f"damaged ({rows})"

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values.

        Returns:
            What `headwater training-set verify --json` prints.
        """
        return {
            "name": self.name,
            "version": self.version,
            "verdict": str(self.verdict),
            "same": self.same,
            "rows": self.rows,
            "erased": self.erased,
            "purged": self.purged,
            "different_rows": self.different_rows,
            "columns": [
                {
                    "name": column.name,
                    "view": column.view,
                    "rows": column.rows,
                    "examples": [{"row": row, "saved": old, "now": new} for row, old, new in column.examples],
                }
                for column in self.columns
            ],
            "rounded": self.rounded,
            "changes": [{"view": c.view, "kind": str(c.kind), "detail": c.detail} for c in self.changes],
            "not_rebuilt": dict(self.not_rebuilt),
            "damage": self.damage,
            "libraries": {name: list(both) for name, both in self.libraries.items()},
        }

    def _repr_html_(self) -> str:
        rows = ([column.name, column.view, f"{column.rows:,}"] for column in self.columns)
        return html_table(
            ("column", "view", "rows that differ"),
            rows,
            caption=f"{self.name} {self.version}: {self._said}",
            notes=self.notes,
        )
