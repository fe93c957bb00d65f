"""Names in a query: where their letter case counts, which columns may be read, and what may be another item's alias."""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp

_RELATIONS = (exp.Table, exp.Subquery, exp.Unnest, exp.Lateral, exp.Values, exp.CTE)
_FROM = (exp.From, exp.Join, exp.Lateral)
_BY_TEXT = ("query", "query_table")
"""Functions that make a table of what a string names."""


def normalize(tree: exp.Expression) -> None:
    """Put names into lower case, in place, but for those whose case may show in a value.

    Keys of JSON and fields of structs keep it, and all names where whole rows, `COLUMNS` or pivots may put them into
    values.
    """
    if _shows_names(tree):
        return
    for name in tree.find_all(exp.Identifier):
        if not _is_field(name):
            name.set("this", name.this.encode().lower().decode())  # ASCII alone, as DuckDB compares names


def names_read(part: exp.Expression) -> frozenset[str]:
    """All names in a part of a query, in lower case: those of the columns that it reads are among them."""
    return frozenset(name.name.lower() for name in part.find_all(exp.Identifier))


def hides_names(part: exp.Expression, relations: frozenset[str]) -> bool:
    """Whether it may read columns that it does not name, by a star, a row, a pattern, a position or a string."""
    return (
        has_star(part)
        or _shows_names(part, relations)
        or part.find(exp.Describe, exp.Summarize) is not None
        or any(alias.columns and isinstance(alias.parent, exp.Table) for alias in part.find_all(exp.TableAlias))
        or any(type(node).__name__ == "PositionalColumn" for node in part.walk())
        or any(join.method.upper() == "NATURAL" for join in part.find_all(exp.Join))
        or any(call.name.lower() in _BY_TEXT for call in part.find_all(exp.Anonymous))
    )


def has_star(part: exp.Expression) -> bool:
    """Whether it stands for columns that are not named; `count(*)` does not."""
    return any(not isinstance(star.parent, exp.Count) for star in part.find_all(exp.Star))


def relations_in(tree: exp.Expression) -> frozenset[str]:
    """The names of all tables, subqueries and their aliases in a query, in lower case."""
    return _named(tree.find_all(*_RELATIONS))


def relations_of(select: exp.Select) -> frozenset[str]:
    """The names that a SELECT's own FROM and JOINs give to what they read, in lower case."""
    nodes = (node for part in parts_of(select) if isinstance(part, _FROM) for node in part.walk(prune=_is_query))
    return _named(node for node in nodes if isinstance(node, _RELATIONS))


def aliases_used(parts: Iterable[exp.Expression]) -> frozenset[str]:
    """The names in parts of a SELECT that may be the alias of one of its items; FROM and JOINs see none of them."""
    own = (part for part in parts if not isinstance(part, (exp.With, *_FROM)))
    names = (name for part in own for name in part.find_all(exp.Identifier))
    return frozenset(name.name.lower() for name in names if not _is_field(name) or _is_after_alias(name))


def parts_of(select: exp.Select) -> list[exp.Expression]:
    """What a SELECT consists of."""
    flat = [one for value in select.args.values() for one in (value if isinstance(value, list) else [value])]
    return [one for one in flat if isinstance(one, exp.Expression)]


def _shows_names(part: exp.Expression, relations: frozenset[str] | None = None) -> bool:
    """Whether names may become values, or choose columns: `to_json(t)` of a table t, `COLUMNS('t.*')`, pivots."""
    if part.find(exp.Columns, exp.Pivot):
        return True
    known = relations_in(part) if relations is None else relations
    return any(name.name.lower() in known for name in part.find_all(exp.Identifier) if _stands_alone(name))


def _stands_alone(name: exp.Identifier) -> bool:
    """Whether it is a column without a qualifier, or what a function is called on: t of `to_json(t)`, `t.to_json()`."""
    parent = name.parent
    if isinstance(parent, exp.Column):
        return not parent.table
    return isinstance(parent, exp.Dot) and parent.this is name


def _is_field(name: exp.Identifier) -> bool:
    """Whether it stands after a dot, or names a struct's field."""
    parent = name.parent
    if isinstance(parent, exp.Column):
        return name is not parent.parts[0]
    if isinstance(parent, exp.Dot):
        return parent.expression is name
    return isinstance(parent, (exp.PropertyEQ, exp.Kwarg, exp.ColumnDef)) and parent.this is name


def _is_after_alias(name: exp.Identifier) -> bool:
    return isinstance(name.parent, exp.Column) and name.parent.table.lower() == "alias"


def _is_query(node: object) -> bool:
    return isinstance(node, (exp.Select, exp.SetOperation))


def _named(nodes: Iterable[exp.Expression]) -> frozenset[str]:
    return frozenset(node.alias_or_name.lower() for node in nodes) - {""}
