"""The kernel: the features of a window version for rows of a spine, from the events of their keys."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headwater.offline.windows import edges
from headwater.offline.windows.answers import FeatureAnswer, answer_of, asked_once, structure_of
from headwater.offline.windows.events import Deletes, Groups
from headwater.offline.windows.keyed import Keyed, in_order_by, sorted_by
from headwater.offline.windows.runs import Runs
from headwater.offline.windows.subsets import Counted, Rows, Subset
from headwater.planning.windows.layout import WindowFeature, WindowLayout
from headwater.planning.windows.rule import BEFORE_ALL
from headwater.planning.windows.statements import Statements, without_repeats

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

NO_EVENT = BEFORE_ALL
"""The newest event time of a key without events."""
_FAR = 2**62
_ROWS = 65_536
_CELLS = 4_000_000
"""Elements of lists that are gathered at once."""


@dataclass(frozen=True)
class PartAnswer:
    """What a window version says to rows of a spine.

    Attributes:
        rows: which row each answer is for.
        newest: the event time of the newest event that counts for its key; `NO_EVENT`: there is none.
        features: of each feature its values.
    """

    rows: Ints
    newest: Ints
    features: list[FeatureAnswer]


def part_answer(
    layout: WindowLayout,
    features: Sequence[WindowFeature],
    statements: Statements,
    deletes: Deletes | None,
    keys: int,
    key: Ints,
    at: Ints,
    *,
    as_known: bool = True,
) -> PartAnswer:
    """The features at each row, by the rule of windows.

    Args:
        layout: of the version.
        features: those of it that are asked for.
        statements: all of the rows' keys.
        deletes: the tombstones of these keys.
        keys: how many keys there are; they are numbers below that.
        key: of each row.
        at: its instant, microseconds.
        as_known: whether only what was known at the instant counts.
    """
    groups = Groups(keys, deletes)
    counted = _counted(layout, statements, groups, as_known=as_known)
    group = groups.at(key, at)
    order = np.argsort(Keyed(groups.count, at).kept(group, at))
    lists = max((f.n for f in features if f.dtype.name == "array"), default=1)
    rows = min(_ROWS, max(1, _CELLS // lists))
    chunks = [order[start : start + rows] for start in range(0, len(order), rows)]
    asked = [Rows(group[chosen], at[chosen]) for chosen in chunks]
    newest = np.concatenate([np.zeros(0, np.int64), *(counted.newest(each) for each in asked)])
    answers: dict[int, FeatureAnswer] = {}
    by_mask: dict[bytes | None, Runs] = {}
    subset: Subset | None = None
    # one structure after the other, so that few are held at the same time
    for (where, column, _), numbers in _by_structure(layout, features).items():
        if subset is None or subset.name != (where, column):
            subset = Subset(counted, where, column, by_mask)
        made: dict[Hashable, FeatureAnswer] = {}
        for i in numbers:
            what = asked_once(features[i], subset, asked)
            if what not in made:
                made[what] = FeatureAnswer.joined([answer_of(features[i], subset, each) for each in asked])
            answers[i] = made[what]
        subset.forget()
    return PartAnswer(order, newest, [answers[i] for i in range(len(features))])


def _by_structure(
    layout: WindowLayout, features: Sequence[WindowFeature]
) -> dict[tuple[str | None, str | None, str], list[int]]:
    """The indexes of features by condition, column and what is made of them; those of one column together."""
    found: dict[tuple[str | None, str | None, str], list[int]] = {}
    for i, feature in enumerate(features):
        given = layout.lists[feature.list]
        found.setdefault((given.where, given.column, structure_of(feature)), []).append(i)
    columns = list(dict.fromkeys(name[:2] for name in found))
    return {name: found[name] for name in sorted(found, key=lambda name: columns.index(name[:2]))}


def _counted(layout: WindowLayout, statements: Statements, groups: Groups, *, as_known: bool) -> Counted:
    """The events that count, in order."""
    index, group = groups.seen(statements, as_known=as_known)
    index, group = without_repeats(statements, index, group)
    event, known = statements.event, statements.known_at if as_known else statements.event
    if groups.divided or statements.ids is not None:
        event, known = event[index], known[index]
    boundary = edges.boundaries(event, layout.hops)
    order = in_order(groups.count, group, boundary, known, math.gcd(*layout.hops))
    # where each statement counts once, its number is its index
    index = index[order] if groups.divided or statements.ids is not None else order
    return Counted(statements, groups.count, index, group.take(order), boundary.take(order), known.take(order))


def in_order(groups: int, group: Ints, boundary: Ints, known: Ints, step: int = 1) -> Ints:
    """The order by group, boundary and known_at.

    Args:
        groups: how many groups there are.
        group, boundary, known: of each event.
        step: what divides the distance of any two boundaries; 0: all are the same.
    """
    # events mostly come by time, so that little is left to do once their groups are together
    order = sorted_by(group, groups)
    stamps = _stamps(groups, group, boundary, known, max(1, step))
    if stamps is not None:
        return in_order_by(order, stamps)
    order = in_order_by(order, Keyed(groups, known).kept(group, known))
    return in_order_by(order, Keyed(groups, boundary).kept(group, boundary), stable=True)


def _stamps(groups: int, group: Ints, boundary: Ints, known: Ints, step: int) -> Ints | None:
    """(group, boundary, known_at) as one number each; None: there is no room for that."""
    if not len(group):
        return group
    first, last = int(boundary.min()), int(boundary.max())
    if max(int(known.max()) - first, last - int(known.min()), last - first) >= _FAR:
        return None
    # an event is known not long after its boundary
    after = known - boundary
    after -= after.min()
    hops, span = (last - first) // step + 1, int(after.max()) + 1
    if groups * hops * span >= _FAR:
        return None
    stamps = group * hops
    stamps += (boundary - first) // step
    stamps *= span
    stamps += after
    return stamps
