"""When the rows of a query are known: no earlier than what they were made of, which a query must show itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property

from sqlglot import exp

from headwater.definitions.query_scopes import (
    UNKNOWN,
    Fault,
    Rows,
    Scope,
    Tree,
    argument,
    is_query,
    own_nodes,
    parts,
)
from headwater.definitions.query_windows import Over, is_windowed, need_of, over_of

_BY_TEXT = ("query", "query_table")
_NO_PIVOT = "PIVOT and UNPIVOT of rows with a created time are not supported: use GROUP BY, or a join"
_ROW = "row"
Need = str | Over
"""What must be in a created time of each table: its own (`row`), or the greatest of a window's rows."""


class QueryReading:
    """What a query reads and gives, scope by scope.

    Args:
        tree: the query.
        tables: the names of tables in it, in lower case → what they are.
        intervals: whether a time with an INTERVAL added is a later one.

    Attributes:
        faults: what is wrong wherever the query is used.
        scopes: every SELECT, inner ones first.
        rows: what the whole query gives.
    """

    def __init__(self, tree: Tree, tables: Mapping[str, Rows], *, intervals: bool = True) -> None:
        self._intervals = intervals
        self.faults: list[Fault] = []
        self.scopes: list[Scope] = []
        self._tables = dict(tables)
        self._seen: set[int] = set()
        """The identities of the queries and tables in the tree that were read."""
        self.rows = self._query(tree, dict(tables))
        self._others(tree)

    def _others(self, tree: Tree) -> None:
        """What stands where nothing looked: of an UNNEST in FROM, of VALUES, of ORDER BY behind a UNION, of a PIVOT."""
        nodes = list(tree.walk())
        for node in nodes:
            if is_query(node) and id(node) not in self._seen:
                self._inner(node, self._tables)
        for node in nodes:
            if isinstance(node, exp.Table) and id(node) not in self._seen and self._named(node, self._tables).timed:
                self._fault(
                    node,
                    f"{node.name} is read where no column says when its rows became known: read it in FROM or a join",
                )

    def _named(self, table: exp.Table, names: Mapping[str, Rows]) -> Rows:
        """What the name of a table means; with a schema before it never what WITH calls so."""
        return (self._tables if table.db else names).get(table.name.lower(), UNKNOWN)

    def _query(self, tree: Tree, names: dict[str, Rows]) -> Rows:
        names = self._with(tree, names)
        self._seen.add(id(tree))
        if isinstance(tree, (exp.Subquery, exp.Paren)):
            rows = self._query(tree.this, names)
        elif isinstance(tree, exp.SetOperation):
            rows = self._both(tree, names)
        elif isinstance(tree, exp.Select):
            rows = self._select(tree, names)
        else:
            return UNKNOWN
        offset = argument(tree, "offset")
        if rows.timed and offset is not None:
            self._fault(offset, "OFFSET leaves out rows by others, which may have become known later: use a condition")
        return rows

    def _with(self, tree: Tree, names: dict[str, Rows]) -> dict[str, Rows]:
        inside = argument(tree, "with")
        for table in () if inside is None else inside.expressions:
            name = table.alias_or_name.lower()
            again = inside is not None and inside.args.get("recursive") and _names(table.this, name)
            rows = self._query(table.this, {**names, name: UNKNOWN} if again else names)
            if again and rows.timed:
                self._fault(
                    table.args["alias"],
                    f"{name} reads itself, and rows that have a created time: this cannot be checked",
                )
            names = {**names, name: _renamed(rows, table.args.get("alias"))}
        return names

    def _both(self, tree: exp.SetOperation, names: dict[str, Rows]) -> Rows:
        left, right = self._query(tree.left, names), self._query(tree.right, names)
        timed = left.timed or right.timed
        if not isinstance(tree, exp.Union):
            if timed:
                word = type(tree).__name__.upper()
                self._fault(tree, f"{word} chooses rows by others, whose created times no column can have: use a join")
            return replace(left, timed=timed)
        if left.columns is None or right.columns is None:
            return Rows(None, (), timed)
        by_name = bool(tree.args.get("by_name"))
        pairs = dict(zip(left.columns, right.columns, strict=False))
        known, faults = [], {}
        for name in left.columns:
            other = name if by_name else pairs.get(name, name)
            if (name in left.known or not left.timed) and (other in right.known or not right.timed):
                known.append(name)
            fault = left.faults.get(name) or right.faults.get(other)
            if fault is not None:
                faults[name] = fault
        more = tuple(name for name in right.columns if by_name and name not in left.columns)
        return Rows((*left.columns, *more), tuple(known), timed, faults)

    def _select(self, select: exp.Select, names: dict[str, Rows]) -> Rows:
        relations: dict[str, Rows] = {}
        for given, rows in self._relations(select, names):
            # DuckDB's own name of what has none
            first = alias = given or "unnamed_subquery"
            while alias in relations:
                alias = f"{first}{len(relations) + 1}"
            relations[alias] = rows
        scope = Scope(select, relations)
        self.scopes.append(scope)
        conditions = [part for join in select.args.get("joins") or () for part in _conditions(join)]
        for part in (*parts(select), *conditions):
            self._inner(part, names)
        return _Columns(scope, intervals=self._intervals).rows()

    def _inner(self, part: Tree, names: dict[str, Rows]) -> None:
        """Queries that give no rows of FROM: EXISTS, IN, scalars."""
        for node in own_nodes(part):
            if is_query(node) and self._query(node, names).timed:
                what = _used_as(node)
                self._fault(
                    _first_table(node) or node,
                    f"a view, or a source with a created time, cannot be read in {what}: no column says when its rows "
                    "became known; use a join",
                )

    def _relations(self, select: exp.Select, names: dict[str, Rows]) -> Iterator[tuple[str, Rows]]:
        start = argument(select, "from")
        if start is not None:
            yield from self._relation(start.this, names)
        for join in select.args.get("joins") or ():
            found = list(self._relation(join.this, names))
            timed = any(rows.timed for _, rows in found)
            kind = f"{join.side} {join.kind}".upper()
            if timed and ("SEMI" in kind or "ANTI" in kind):
                word = "SEMI" if "SEMI" in kind else "ANTI"
                self._fault(join.this, f"a {word} JOIN gives no column of its rows, nor their created time: use a join")
            if timed and join.method.upper() == "NATURAL":
                self._fault(join.this, "NATURAL joins by the columns of times too: write USING (…) or ON")
            yield from found
        for lateral in select.args.get("laterals") or ():
            yield from self._relation(lateral, names)

    def _relation(self, node: Tree, names: dict[str, Rows]) -> Iterator[tuple[str, Rows]]:
        alias = node.alias_or_name.lower()
        rows = UNKNOWN
        if isinstance(node, exp.Table):
            self._seen.add(id(node))
            if isinstance(node.this, exp.Identifier):
                rows = self._named(node, names)
            elif (
                isinstance(node.this, exp.Anonymous)
                and node.this.name.lower() in _BY_TEXT
                and any(table.timed for table in names.values())
            ):
                name = node.this.name
                self._fault(
                    node.this, f"{name}() names tables in a text, which cannot be checked: write the query itself"
                )
            else:
                self._inner(node.this, names)
        elif isinstance(node, exp.Lateral):
            rows = self._query(node.this, names) if isinstance(node.this, (exp.Subquery, exp.Query)) else UNKNOWN
        elif isinstance(node, (exp.Subquery, exp.Paren)) and isinstance(node.this, (exp.Table, exp.Paren)):
            yield from self._relation(node.this, names)
            for join in node.this.args.get("joins") or ():
                yield from self._relation(join.this, names)
            return
        elif isinstance(node, exp.Subquery) and isinstance(node.this, exp.Pivot):
            tables = list(node.find_all(exp.Table))
            if any(self._named(table, names).timed for table in tables):
                self._seen.update(map(id, tables))
                self._fault(node.this, _NO_PIVOT)
        elif isinstance(node, exp.Subquery) or is_query(node):
            rows = self._query(node.this if isinstance(node, exp.Subquery) else node, names)
        if rows.timed and node.args.get("pivots"):
            self._fault(
                node, "PIVOT and UNPIVOT of rows with a created time are not supported: use GROUP BY, or a join"
            )
        yield alias, _renamed(rows, node.args.get("alias"))
        for join in (node.args.get("joins") or ()) if isinstance(node, exp.Table) else ():
            yield from self._relation(join.this, names)

    def _fault(self, node: Tree, text: str) -> None:
        self.faults.append(Fault(node, text))


class _Columns:
    """The columns that one SELECT gives, and which of them are known columns."""

    def __init__(self, scope: Scope, *, intervals: bool) -> None:
        self._scope, self._intervals = scope, intervals
        self._select = scope.select

    def rows(self) -> Rows:
        items = self._scope.items()
        timed = self._scope.timed
        if not timed:
            return Rows(None if items is None else tuple(name for name, _ in items), (), False)
        listed = items if items is not None else _named(self._select)
        known: list[str] = []
        faults: dict[str, Fault] = {}
        names: list[str] = []
        for name, item in listed:
            again = name in names
            names.append(name)
            lacking = self._lacking(item) or (
                "is given twice: which of the two it is cannot be told" if again else None
            )
            if lacking is None:
                known.append(name)
            else:
                known = [one for one in known if one != name]
                faults[name] = Fault(item if item.parent is not None else self._select, f"column {name!r} {lacking}")
        return Rows(None if items is None else tuple(names), tuple(known), True, faults)

    def _lacking(self, item: Tree) -> str | None:
        """What a column lacks to be no earlier than what the row was made of; None: nothing."""
        needs: list[Need] = [_ROW, *self._overs]
        timed = self._scope.timed
        covered = {need: self._covered(item, need) for need in needs}
        for alias, rows in timed.items():
            if not rows.known and alias not in covered[_ROW]:
                inner = next((f"; {fault.text}" for fault in rows.faults.values()), "")
                return f"reads {alias}, which gives no created time: its own SELECT must give one{inner}"
        lacking = [(alias, need) for need in needs for alias in timed if alias not in covered[need]]
        missing = [self._needed(alias, timed[alias], need) for alias, need in lacking]
        if not missing:
            return None
        whole = [self._needed(alias, rows, need) for need in needs for alias, rows in timed.items()]
        whole = list(dict.fromkeys(whole))
        written = f"GREATEST({', '.join(whole)})" if len(whole) > 1 else whole[0]
        return f"may be earlier than {missing[0]}: a row would be known before what it was made of; write {written}"

    def _needed(self, alias: str, rows: Rows, need: Need) -> str:
        """What of a table a created time must have, as SQL."""
        column = f"{alias}.{rows.known[0]}" if rows.known else alias
        column = f"MAX({column})" if self._is_grouped else column
        return column if isinstance(need, str) else f"MAX({column}) OVER {need}"

    @cached_property
    def _is_grouped(self) -> bool:
        if argument(self._select, "group") is not None or argument(self._select, "having") is not None:
            return True
        nodes = (node for part in parts(self._select) for node in own_nodes(part))
        return any(isinstance(node, exp.AggFunc) and not is_windowed(node) for node in nodes)

    @cached_property
    def _keys(self) -> frozenset[str]:
        group = argument(self._select, "group")
        if group is None:
            return frozenset()
        if group.args.get("all"):
            return frozenset(_text(item) for item in self._select.expressions if isinstance(item, exp.Column))
        return frozenset(_text(key) for key in group.expressions)

    @cached_property
    def _overs(self) -> list[Over]:
        nodes = (node for part in parts(self._select) for node in own_nodes(part))
        windows = [node for node in nodes if isinstance(node, exp.Window) and node.parent is not self._select]
        return list(dict.fromkeys(need_of(window, self._select) for window in windows))

    def _covered(self, node: Tree, need: Need, *, within: bool = False) -> frozenset[str]:
        """The tables whose rows' times a value is never earlier than.

        Args:
            node: an expression of the SELECT.
            need: of the row, or of a window's rows.
            within: whether it is the argument of an aggregate: a row of the group.
        """
        if isinstance(node, (exp.Alias, exp.Paren)):
            return self._covered(node.this, need, within=within)
        if isinstance(node, exp.Column):
            return self._of_column(node, need, within)
        if isinstance(node, exp.Greatest):
            some = [self._covered(one, need, within=within) for one in (node.this, *node.expressions)]
            return frozenset().union(*some)
        if isinstance(node, exp.Coalesce):
            # where the first is NULL there is no row of its table
            return self._covered(node.this, need, within=within)
        if isinstance(node, exp.Add) and self._intervals:
            for one, other in ((node.this, node.expression), (node.expression, node.this)):
                if _is_forward(other):
                    return self._covered(one, need, within=within)
        if isinstance(node, exp.Window) and isinstance(node.this, exp.Max) and not within and not node.this.expressions:
            over = over_of(node, self._select)
            holds = over.includes_row if isinstance(need, str) else over.covers(need)
            return self._covered(node.this.this, _ROW) if holds else frozenset()
        if isinstance(node, exp.Max) and self._is_grouped and need == _ROW and not within and not node.expressions:
            return self._covered(node.this, _ROW, within=True)
        return frozenset()

    def _of_column(self, column: exp.Column, need: Need, within: bool) -> frozenset[str]:
        if need != _ROW or (self._is_grouped and not within and _text(column) not in self._keys):
            return frozenset()
        alias = self._scope.relation_of(column)
        if alias is None or column.name.lower() not in self._scope.relations[alias].known:
            return frozenset()
        return frozenset([alias])


def _named(select: exp.Select) -> Iterator[tuple[str, Tree]]:
    """The columns that are named, where a star hides others."""
    for item in select.expressions:
        if item.alias_or_name not in ("", "*"):
            yield item.alias_or_name.lower(), item


def _is_forward(node: Tree) -> bool:
    """Whether it is an interval that is written out and not negative."""
    if isinstance(node, exp.Paren):
        return _is_forward(node.this)
    if not isinstance(node, exp.Interval) or not isinstance(node.this, exp.Literal):
        return False
    return "-" not in node.this.name and "ago" not in node.this.name.lower()


def _conditions(join: exp.Join) -> Iterator[Tree]:
    on = join.args.get("on")
    if isinstance(on, Tree):
        yield on


def _renamed(rows: Rows, alias: object) -> Rows:
    """The rows under names of their columns that an alias gives: `t(a, b)`."""
    names = alias.args.get("columns") if isinstance(alias, exp.TableAlias) else None
    if not names:
        return rows
    if rows.columns is None:
        return Rows(None, (), rows.timed)
    given = [name.name.lower() for name in names]
    new = dict(zip(rows.columns, [*given, *rows.columns[len(given) :]], strict=False))
    known = tuple(new[name] for name in rows.known)
    return Rows(tuple(new.values()), known, rows.timed, {new.get(name, name): f for name, f in rows.faults.items()})


def _names(tree: Tree, name: str) -> bool:
    return any(table.name.lower() == name for table in tree.find_all(exp.Table))


def _used_as(node: Tree) -> str:
    parent = node.parent
    while isinstance(parent, (exp.Subquery, exp.Paren)):
        parent = parent.parent
    if isinstance(parent, exp.Exists):
        return "EXISTS"
    return "IN" if isinstance(parent, (exp.In, exp.Any, exp.All)) else "a scalar subquery"


def _first_table(node: Tree) -> Tree | None:
    found: Tree | None = node.find(exp.Table)
    return found


def _text(node: Tree) -> str:
    return node.sql(dialect="duckdb", comments=False).lower()
