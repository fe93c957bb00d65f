"""Scopes: what each SELECT of a query reads, and which of its columns are no earlier than what made the row.

A *known column* of rows is one that is at no row earlier than when the row's inputs became known. A view's `known_at`
is one, and so is a source's created time; a SELECT's own columns are judged by `query_known`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlglot import exp

if TYPE_CHECKING:
    Tree = exp.Expr
else:
    Tree = exp.Expression  # sqlglot before 27 has no wider name


@dataclass(frozen=True)
class Fault:
    """Something wrong with a part of a query.

    Attributes:
        node: the part.
        text: what is wrong, and what to do.
    """

    node: Tree
    text: str


@dataclass(frozen=True)
class Rows:
    """What FROM can read under a name; names are in lower case.

    Attributes:
        columns: the columns, in order; None where they are not known.
        known: of them the known columns.
        timed: whether the rows have times at which they became known.
        faults: column → why it is not a known column.
    """

    columns: tuple[str, ...] | None = None
    known: tuple[str, ...] = ()
    timed: bool = False
    faults: Mapping[str, Fault] = field(default_factory=dict)


UNKNOWN = Rows()


@dataclass(frozen=True)
class Scope:
    """One SELECT of a query.

    Attributes:
        select: its tree.
        relations: alias → what it reads, in the order of FROM.
    """

    select: exp.Select
    relations: Mapping[str, Rows]

    def relation_of(self, column: exp.Column) -> str | None:
        """The alias of the relation that a column is of; None where that cannot be told."""
        if column.table:
            return column.table.lower() if column.table.lower() in self.relations else None
        name = column.name.lower()
        having = [alias for alias, rows in self.relations.items() if rows.columns is not None and name in rows.columns]
        if having:
            return having[0] if len(having) == 1 else None
        unknown = [alias for alias, rows in self.relations.items() if rows.columns is None]
        return unknown[0] if len(unknown) == 1 else None

    @property
    def timed(self) -> dict[str, Rows]:
        """The relations whose rows have times at which they became known."""
        return {alias: rows for alias, rows in self.relations.items() if rows.timed}

    def items(self) -> Iterator[tuple[str, Tree]] | None:
        """Name → expression of each column that it gives, stars expanded; None where a star cannot be.

        Nor can `COLUMNS(…)` and `unnest(…)`, which give columns of other names than theirs.
        """
        found: list[tuple[str, Tree]] = []
        for item in self.select.expressions:
            if any(map(_makes_columns, own_nodes(item))):
                return None
            star = _star_of(item)
            if star is None:
                found.append((item.alias_or_name.lower(), item))
                continue
            expanded = self._expanded(item, star)
            if expanded is None:
                return None
            found += expanded
        return iter(found)

    def _expanded(self, item: Tree, star: exp.Star) -> list[tuple[str, Tree]] | None:
        table = item.table.lower() if isinstance(item, exp.Column) else ""
        if table and table not in self.relations:
            return None  # the fields of a struct
        replaced = {one.alias_or_name.lower(): one for one in _listed(star, "replace")}
        left_out = {one.name.lower() for one in (*_listed(star, "except_"), *_listed(star, "except"))}
        renamed = {one.this.name.lower(): one.alias_or_name.lower() for one in _listed(star, "rename")}
        found: dict[str, Tree] = {}
        for alias, rows in self.relations.items():
            if table and alias != table:
                continue
            if rows.columns is None:
                return None
            for name in rows.columns:
                if name not in left_out and name not in found:
                    node = replaced.get(name) or exp.column(name, table=alias)
                    found[name] = node
        return [(renamed.get(name, name), node) for name, node in found.items()]


def _makes_columns(node: Tree) -> bool:
    """Whether it is `COLUMNS(…)`, or `unnest(…)`, of which SQLGlot takes `main.unnest(…)` for any function."""
    if isinstance(node, exp.Anonymous):
        return node.name.lower() == "unnest"
    return isinstance(node, (exp.Columns, exp.Unnest, exp.Explode))


def _star_of(item: Tree) -> exp.Star | None:
    if isinstance(item, exp.Star):
        return item
    return item.this if isinstance(item, exp.Column) and isinstance(item.this, exp.Star) else None


def _listed(star: exp.Star, name: str) -> list[Tree]:
    found = star.args.get(name)
    return found if isinstance(found, list) else [] if found is None else [found]


def is_query(node: object) -> bool:
    """Whether a node is a query of its own."""
    return isinstance(node, (exp.Select, exp.SetOperation))


def own_nodes(tree: Tree) -> Iterator[Tree]:
    """The nodes of a tree without those of queries inside it; a query inside is among them itself."""
    for node in tree.walk(prune=lambda node: node is not tree and is_query(node)):
        if isinstance(node, Tree):
            yield node


def parts(select: exp.Select) -> Iterator[Tree]:
    """What a SELECT consists of beside WITH and what it reads."""
    for name, value in select.args.items():
        if name in ("with", "with_", "from", "from_", "joins", "laterals"):
            continue
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Tree):
                yield one


def argument(node: Tree, name: str) -> Tree | None:
    """An argument whose name differs between SQLGlot's versions by an underscore at its end."""
    found = node.args.get(f"{name}_") or node.args.get(name)
    return found if isinstance(found, Tree) else None
