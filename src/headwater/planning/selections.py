"""What is read of views: features of one of their versions, and which version is read for them now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from headwater.values import Value


class PinnedSelection(Value, frozen=True):
    """Features of one view version as a service or another view reads them: expanded, in order.

    The version is the one that the reader was made from: its columns are those that the reader has for ever. Which
    version is read for them is said by `reads`.
    """

    view: str
    version: str
    names: tuple[str, ...]
    alias: str | None = None
    join_key_map: Mapping[str, str] = msgspec.field(default_factory=dict)
    renames: Mapping[str, str] = msgspec.field(default_factory=dict)

    def only(self, names: tuple[str, ...]) -> PinnedSelection:
        """The same with some of its features."""
        return replace(self, names=names, renames={n: new for n, new in self.renames.items() if n in names})


class Reads:
    """What reads features of views: a version of a service, of an on-demand view, or of a view over views.

    Attributes:
        selections: what it reads, in order, each of the view version that it was made from.
        reads: (view, version that it was made from) → the version that is read for it now, which has the same columns
            with the same fingerprints; one that is missing is read itself.
    """

    __slots__ = ()
    selections: tuple[PinnedSelection, ...]
    reads: Mapping[tuple[str, str], str]

    @property
    def views_read(self) -> tuple[tuple[str, str], ...]:
        """(view, version) of all that is read for its selections, each once, in order."""
        return tuple(dict.fromkeys((s.view, self.version_read(s)) for s in self.selections))

    def version_read(self, selection: PinnedSelection) -> str:
        """The version of a view that is read for one of its selections."""
        made = (selection.view, selection.version)
        return self.reads.get(made, selection.version)


Upstream = Mapping[tuple[str, str], Any]
"""(view, version that a reader was made from) → that version itself, whose fingerprints are part of the reader's."""
