"""Window views joined to a spine where the rows are: the engine runs the kernel over parts of whole keys.

Spine, events and tombstones are one query, whose rows the engine brings together by key; only answers come back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from sqlglot import exp

from headwater.offline.base import ViewInput
from headwater.offline.join.pit import Join
from headwater.offline.join.relations import key_form
from headwater.offline.join.windowed import SHOWN, overflow, table_kernel
from headwater.offline.join.workspace import Workspace
from headwater.offline.trees import TINYINT, Tree, ascending, big, column, number, table_named, union_all
from headwater.offline.windows.held import OVERFLOWN
from headwater.offline.windows.whole_keys import DELETE, EVENT, SPINE, WholeKeys
from headwater.planning.windows.layout import WindowFeature


class WindowsInPlace:
    """A window version joined to the spine by an engine that computes windows itself; see `WindowJoin`.

    Args:
        space: the run's tables; `spine` is among them.
        label: part of the names of its tables.
        view: the version.
        join: the spine and the version's rows (those of `row_view`).
        features: the names of the features asked for, in order.
        size: how many rows the spine has.
        rows: how many rows of the answer are asked for at once.
    """

    def __init__(
        self, space: Workspace, label: str, view: ViewInput, join: Join, features: Sequence[str], size: int, rows: int
    ) -> None:
        layout = view.view.windows
        assert layout is not None
        self._space, self._view, self._join, self._size, self._rows = space, view, join, size, rows
        by_name = {feature.name: feature for feature in layout.features}
        self._features: list[WindowFeature] = [by_name[name] for name in features]
        self._name = f"windows_{label}"
        keys = [(name, key_form(key.dtype)) for name, key in zip(join.rows.key_names, view.view.keys, strict=False)]
        kernel = table_kernel(view, join, self._features)
        ids = join.rows.types.get("event_id", pa.string()) if kernel.ids else None
        self._function = WholeKeys(kernel, pa.schema(keys or [("k0", pa.int64())]), ids)
        self.counts = {"matched": 0, "no_row": 0, "expired": 0, "not_known": 0, "same_instant": 0}

    def run(self) -> None:
        """Let the engine compute all answers.

        Raises:
            DataError: a sum of integers is beyond 64 bits.
        """
        function, keys = self._function, self._function.keys.names
        self._space.create_by_key(self._name, self._query(), function.schema, keys, function, function.answer)
        self._count()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Of each feature f… and its status s…, and event, in the spine's order."""
        answer = self._function.answer
        names = [name for name in answer.names if name != "same"]
        schema = pa.schema([answer.field(name) for name in names])
        query = exp.select(*[column(name) for name in names]).from_(self._table()).order_by(column("rn"))
        last = -1
        for batch in self._space.stream(query, schema, self._rows):
            numbers = np.asarray(batch.column("rn"))
            assert (np.diff(numbers, prepend=last) > 0).all(), "a row of the spine has two answers"
            last = numbers[-1] if len(numbers) else last
            found = {"event": batch.column("event")}
            for i in range(len(self._features)):
                found[f"f{i}"] = batch.column(f"f{i}")
                found[f"s{i}"] = batch.column(self._status(i))
            yield pa.RecordBatch.from_pydict(found)

    def answer(self) -> exp.Query:
        """The query of rn, event, and of each feature f… and its status s…, in any order."""
        values = [column(f"f{i}") for i in range(len(self._features))]
        statuses = [column(self._status(i)).as_(f"s{i}", quoted=True) for i in range(len(self._features))]
        return exp.select(column("rn"), column("event"), *values, *statuses).from_(self._table())

    def _status(self, index: int) -> str:
        """The column that has the status of a feature."""
        kept = self._kept(index)
        return "s" if kept is None else f"s{kept}"

    # what is sent

    def _query(self) -> exp.Query:
        """The rows of the spine, the events and the tombstones, as `WholeKeys.schema` says."""
        parts = [self._events(), self._spine()]
        if self._join.rows.deletes is not None:
            parts.append(self._deletes(self._join.rows.deletes))
        return union_all(parts)

    def _events(self) -> exp.Select:
        join, kernel = self._join, self._function.kernel
        rows = join.rows.events(kernel.columns, None, join.upper).subquery("r", copy=False)
        found: dict[str, Tree] = {"side": _side(EVENT), "at": column("event", "r")}
        last: list[Tree] = [column("event", "r") <= big(join.last)]
        if join.as_known:
            last.append(column("created", "r") <= big(join.last))
        return self._select(found, "r").from_(rows, copy=False).where(*last)

    def _spine(self) -> exp.Select:
        join = self._join
        keys: list[Tree] = [column(name, "s") for name in join.keys] or [big(0)]
        found: dict[str, Tree] = {"side": _side(SPINE), "at": column("t", "s"), "position": column("rn", "s")}
        found |= dict(zip(self._function.keys.names, keys, strict=True))
        return self._select(found, None).from_(table_named(join.spine).as_("s"))

    def _deletes(self, table: str) -> exp.Select:
        found: dict[str, Tree] = {
            "side": _side(DELETE),
            "at": column("through", "d"),
            "position": column("position", "d"),
        }
        found |= {name: column(name, "d") for name in self._function.keys.names}
        return self._select(found, None).from_(table_named(table).as_("d"))

    def _select(self, found: dict[str, Tree], rows: str | None) -> exp.Select:
        """The columns of the function's rows: those found, else those of an item of FROM, else NULL."""
        chosen = []
        for field in self._function.schema:
            value = found.get(field.name)
            if value is None:
                value = exp.Null() if rows is None else column(field.name, rows)
            chosen.append(value.as_(field.name, quoted=True))
        return exp.select(*chosen)

    # what comes back

    def _table(self) -> exp.Table:
        return table_named(self._space.table(self._name))

    def _count(self) -> None:
        sums = {i: f for i, f in enumerate(self._features) if f.errors == "raise" and self._kept(i) == i}
        same = exp.Sum(this=exp.Case().when(column("same"), big(1)).else_(big(0)))
        least = [exp.Min(this=column(f"s{i}")) for i in sums]
        query = exp.select(exp.Count(this=column("event")), same, *least).from_(self._table())
        matched, same_instant, *lowest = self._space.rows(query)[0]
        for (i, feature), status in zip(sums.items(), lowest, strict=True):
            if status == OVERFLOWN:
                raise self._overflow(i, feature)
        self.counts["matched"], self.counts["same_instant"] = int(matched or 0), int(same_instant or 0)
        self.counts["no_row"] = self._size - self.counts["matched"]

    def _kept(self, index: int) -> int | None:
        form = self._function.form
        return form.kept.get(form.presences[index])

    def _overflow(self, index: int, feature: WindowFeature) -> Exception:
        """The error of sums beyond 64 bits."""
        join = self._join
        spine = table_named(join.spine).as_("s")
        beyond = column(f"s{index}", "a").eq(number(OVERFLOWN))
        names: list[Tree] = [column(name, "s") for name in join.keys]
        rows = self._table().as_("a")
        keys = exp.select(*(names or [number(1).as_("one")])).distinct().from_(rows)
        keys = keys.join(spine, on=column("rn", "a").eq(column("rn", "s"))).where(beyond)
        count = int(self._space.rows(exp.select(exp.Count(this=exp.Star())).from_(keys.subquery("k")))[0][0])
        if not names:
            return overflow(self._view, feature, [], count)
        first = keys.copy()
        first.set("order", ascending([column(name.name) for name in names]))
        return overflow(self._view, feature, self._space.rows(first.limit(SHOWN)), count)


def _side(side: int) -> Tree:
    return exp.cast(number(side), TINYINT)
