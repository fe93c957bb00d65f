"""A whole answer as one query: the spine's columns, features, defaults and statuses, for engines that write files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from sqlglot import exp

from headwater.offline.join.columns import ViewColumns
from headwater.offline.join.workspace import Workspace
from headwater.offline.trees import Tree, column, table_named

_DEFAULTS = "defaults"


@dataclass(frozen=True)
class ViewAnswer:
    """What one view gives each row of the spine.

    Attributes:
        columns: what it adds to the answer.
        query: rn, event, f0… and why or s0…, as `ViewColumns.expressions` takes them; one row of each row of the spine.
    """

    columns: ViewColumns
    query: exp.Query


def whole_answer(
    space: Workspace, spine: Sequence[tuple[str, Tree]], answers: Sequence[ViewAnswer], order: Sequence[str]
) -> exp.Query:
    """The answer's columns, in any order of rows.

    Args:
        space: the run's tables, the spine among them; one of the defaults is added where there are any.
        spine: the names of the spine's columns, with what they are of the table s.
        answers: of each view.
        order: the names of the columns beside the spine's.
    """
    defaults = [
        (_default(i, n), feature.dtype.arrow, feature.default)
        for i, answer in enumerate(answers)
        for n, feature in enumerate(answer.columns.features)
        if feature.default is not None
    ]
    found: dict[str, Tree] = {}
    for i, answer in enumerate(answers):
        features = answer.columns.features
        absent = [
            None if feature.default is None else column(_default(i, n), _DEFAULTS) for n, feature in enumerate(features)
        ]
        found |= answer.columns.expressions(space.words, f"v{i}", absent)
    query = exp.select(*[value.as_(name, quoted=True) for name, value in spine])
    query = query.select(*[found[name].as_(name, quoted=True) for name in order])
    query = query.from_(table_named(space.table("spine")).as_("s"))
    for i, answer in enumerate(answers):
        unordered = answer.query.copy()
        unordered.set("order", None)
        query = query.join(unordered.subquery(f"v{i}"), on=column("rn", "s").eq(column("rn", f"v{i}")))
    if defaults:
        # as a row, so that a default is the very value that it is elsewhere
        schema = pa.schema([(name, kind) for name, kind, _ in defaults])
        row = pa.record_batch([pa.array([value], kind) for _, kind, value in defaults], schema=schema)
        space.load(_DEFAULTS, schema, iter([row]))
        query = query.join(table_named(space.table(_DEFAULTS)).as_(_DEFAULTS), join_type="cross")
    return query


def _default(view: int, feature: int) -> str:
    return f"d{view}_{feature}"
