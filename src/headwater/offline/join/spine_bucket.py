"""A bucket of a spine: which of its rows, by the join keys that all views share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headwater.offline.base import ViewInput
from headwater.offline.join.buckets import in_bucket, is_cheap
from headwater.offline.join.workspace import Workspace
from headwater.offline.trees import Tree, column, number
from headwater.offline.words import Words
from headwater.planning.buckets import Bucket, members
from headwater.planning.resolved import ResolvedView
from headwater.types import DType, Int64


@dataclass(frozen=True)
class SpineBucket:
    """A bucket of a spine's rows.

    Attributes:
        bucket: which.
        keys: dtype of each spine column that is a join key of all views that have any, by name; empty: of none, then
            the row's number decides.
    """

    bucket: Bucket
    keys: Mapping[str, DType]

    @staticmethod
    def of(bucket: Bucket | None, views: Sequence[ViewInput], keys: Mapping[str, DType]) -> SpineBucket | None:
        """A bucket of the rows that some views are joined to; None: of all rows.

        Args:
            bucket: which; None: all rows.
            views: the views; those without keys are joined to every row, and have no say.
            keys: dtype of each join key in the spine.
        """
        if bucket is None:
            return None
        keyed = [{key.column for key in view.view.keys} for view in views if view.view.keys]
        shared = sorted(set.intersection(*keyed)) if keyed else []
        return SpineBucket(bucket, {name: keys[name] for name in shared})

    def rows(self, keys: Mapping[str, pa.Array], first: int, size: int) -> NDArray[np.bool_]:
        """Which of some rows are in the bucket.

        Args:
            keys: the join keys in the query's form, by name.
            first: the number of the first row.
            size: how many rows there are.
        """
        columns = [keys[name] for name in self.keys]
        return members(columns or [pa.array(np.arange(first, first + size))], self.bucket)

    def condition(self, words: Words, keys: Mapping[str, Tree]) -> Tree:
        """The same as a condition of an engine; of entities without keys there is one row, number 0."""
        if not self.keys:
            return in_bucket(words, [number(0)], [Int64], self.bucket)
        return in_bucket(words, [keys[name] for name in self.keys], list(self.keys.values()), self.bucket)

    def of_view(self, space: Workspace, view: ResolvedView) -> Callable[[Sequence[Tree]], Tree] | None:
        """The condition that a row of a view can be joined to a row of the bucket, of its keys in the query's form.

        None where it would not pay: the embedded engine hashes text more slowly than it joins.
        """
        if not view.keys or not self.keys or not (is_cheap(list(self.keys.values())) or space.powers.packed is None):
            return None
        places = {key.column: i for i, key in enumerate(view.keys)}

        def condition(keys: Sequence[Tree]) -> Tree:
            return self.condition(space.words, {name: keys[places[name]] for name in self.keys})

        return condition


def columns_named(names: Sequence[str], table: str) -> dict[str, Tree]:
    """Columns c0… of an item of FROM, by the join keys that they hold."""
    return {name: column(f"c{i}", table) for i, name in enumerate(names)}
