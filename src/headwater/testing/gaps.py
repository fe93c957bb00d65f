"""What an engine cannot do, declared as data: each gap has its kind and the error that it ends in, and is strict.

A gap that is closed fails the suite until its declaration is removed, and so does one that ends in another error. The
declarations are the support matrix of the documentation.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from headwater.definitions.view import FeatureView
from headwater.errors import nearest


class Mark(enum.StrEnum):
    """Why an engine cannot do something."""

    NOT_IMPLEMENTED = "not implemented"
    """The engine could; headwater's part of it is missing."""
    NOT_YET = "not yet"
    """The engine itself cannot in its present releases."""
    NEVER = "never"
    """It is not what the engine is."""


DTYPES = ("int32", "int64", "float32", "float64", "bool", "string", "bytes", "timestamp", "date", "array", "embedding")
ABILITIES = {
    **{dtype: f"{dtype} columns in tables of its own" for dtype in DTYPES},
    "nan": "NaN in tables of its own, apart from NULL",
    "infinity": "infinities in tables of its own",
    "zones": "naive times of another zone (`timezone=`) in tables of its own",
    "queries": "sources that are queries of its own tables",
    "transformations": "SQL transformations over its own tables (`tables=`)",
    "spines": "a spine in a table of its own",
    "windows": "window aggregations",
    "cancelling": "ends a statement that is under way",
}
"""What the suite asks of every engine, one by one, and how the documentation calls it."""


@dataclass(frozen=True)
class Gap:
    """Something that an engine cannot do.

    Attributes:
        ability: one of `ABILITIES`.
        mark: why.
        error: what trying it ends in; `AssertionError` where the answer differs.
        match: a regular expression that is found in the error's text; may be empty for an `AssertionError`.
        reason: for readers of the support matrix, in a few words.
    """

    ability: str
    mark: Mark
    error: type[Exception]
    match: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        if self.ability not in ABILITIES:
            raise ValueError(f"no ability {self.ability!r}{nearest(self.ability, ABILITIES)}")
        if not self.match and not issubclass(self.error, AssertionError):
            raise ValueError(f"{self.ability!r}: say what the error's text matches")


class Gaps:
    """All gaps of an engine.

    Args:
        gaps: one for each ability that it lacks.
    """

    def __init__(self, *gaps: Gap) -> None:
        self._gaps = {gap.ability: gap for gap in gaps}
        if len(self._gaps) != len(gaps):
            raise ValueError("an ability is declared missing twice")

    def __iter__(self) -> Iterator[Gap]:
        return iter(self._gaps.values())

    def __contains__(self, ability: str) -> bool:
        return ability in self._gaps

    def of(self, ability: str) -> Gap | None:
        """The gap at an ability, None where the engine has it."""
        return self._gaps.get(ability)

    def leave(self, view: FeatureView, table: pa.Table) -> bool:
        """Whether a view's rows cannot be in a table of the engine's own."""
        dtypes = [*view.join_keys.values(), *(feature.dtype for feature in view.feature_list)]
        if any(dtype.name in self for dtype in dtypes):
            return True
        floats = [c for c in table.columns if pa.types.is_floating(c.type)]
        if "nan" in self and any(pc.any(pc.is_nan(column)).as_py() for column in floats):
            return True
        return "infinity" in self and any(pc.any(pc.is_inf(column)).as_py() for column in floats)
