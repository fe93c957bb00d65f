"""Query parts: what of a query makes one of its columns, so that another column's change is none of this one's."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import cast

import sqlglot
from sqlglot import exp
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

_ROWS = ("distinct", "limit", "offset", "qualify", "sample")
"""What of the outer SELECT chooses rows by all of its columns, or may."""
_MAKES_ROWS = (exp.Unnest, exp.Explode, exp.Posexplode)
"""Items that make rows, each with its own count of them."""


@lru_cache(maxsize=1024)
def canonical_sql(query: str) -> str:
    """A query without comments, layout or letter case of keywords; as written where it does not parse."""
    tree = _parsed(query)
    return " ".join(query.split()) if tree is None else _text(tree)


def laid_out(query: str) -> str:
    """A query with a clause or select item a line, to be compared by people; as written where it does not parse."""
    tree = _parsed(query)
    return query if tree is None else tree.sql(dialect="duckdb", comments=False, pretty=True)


def part_of(query: str, columns: Iterable[str]) -> str:
    """The query without the select items that none of some of its columns needs, as canonical SQL.

    The whole query where an item may have a part in which rows there are (DISTINCT, GROUP BY ALL or by ordinals, a set
    operation, a star, QUALIFY, LIMIT, an item that makes rows), or where a column is not found among the items.
    """
    return _part_of(query, frozenset(name.lower() for name in columns))


@lru_cache(maxsize=4096)
def _part_of(query: str, wanted: frozenset[str]) -> str:
    tree = _parsed(query)
    items = None if tree is None else _items(tree)
    if tree is None or items is None or not wanted <= items.keys():
        return canonical_sql(query)
    assert isinstance(tree, exp.Select)
    kept = _needed(tree, items, wanted)
    tree.set("expressions", [item for name, item in items.items() if name in kept])
    tree.set("order", None)
    return _text(tree)


def names_in(query: str) -> frozenset[str] | None:
    """The names of columns, in lower case, that a query may read; None where a star or broken text hides them."""
    tree = _parsed(query)
    if tree is None or _has_star(tree):
        return None
    return frozenset(found.name.lower() for found in tree.find_all(exp.Identifier))


def _parsed(query: str) -> exp.Expression | None:
    try:
        tree = sqlglot.parse_one(query, dialect="duckdb")
    except sqlglot.errors.SqlglotError:
        return None
    return cast(exp.Expression, normalize_identifiers(tree, dialect="duckdb"))


def _text(tree: exp.Expression) -> str:
    return tree.sql(dialect="duckdb", comments=False, normalize_functions="upper")


def _items(tree: exp.Expression) -> dict[str, exp.Expression] | None:
    """Name → select item of an outer SELECT whose items each make their own column alone; else None."""
    if not isinstance(tree, exp.Select) or any(tree.args.get(part) for part in _ROWS):
        return None
    group = tree.args.get("group")
    if group is None:
        if any(map(_aggregates, tree.expressions)):
            return None  # one row, because of any of them
    elif group.args.get("all") or any(map(_is_ordinal, group.expressions)):
        return None
    items: dict[str, exp.Expression] = {}
    for item in tree.expressions:
        name = item.alias_or_name.lower()
        if not name or name in items or _has_star(item) or item.find(exp.Columns, *_MAKES_ROWS):
            return None
        items[name] = item
    return items


def _has_star(part: exp.Expression) -> bool:
    """Whether it stands for columns that are not named; `count(*)` does not."""
    return any(not isinstance(star.parent, exp.Count) for star in part.find_all(exp.Star))


def _aggregates(item: exp.Expression) -> bool:
    return any(not found.find_ancestor(exp.Window, exp.Subquery) for found in item.find_all(exp.AggFunc))


def _is_ordinal(key: exp.Expression) -> bool:
    return isinstance(key, exp.Literal) and not key.is_string


def _needed(tree: exp.Select, items: dict[str, exp.Expression], wanted: frozenset[str]) -> set[str]:
    """The items wanted, and those that these, or the rest of the query, may name by their alias."""
    rest = [part for name, part in tree.args.items() if name not in ("expressions", "order")]
    named = {found.name.lower() for part in _expressions(rest) for found in part.find_all(exp.Column)}
    needed: set[str] = set()
    computed = {name for name, item in items.items() if not _is_plain(name, item)}
    ahead = [name for name in items if name in wanted or (name in named and name in computed)]
    while ahead:
        name = ahead.pop()
        if name not in needed:
            needed.add(name)
            ahead += {c.name.lower() for c in items[name].find_all(exp.Column)} & computed
    return needed


def _is_plain(name: str, item: exp.Expression) -> bool:
    """Whether it passes a column on under its own name: that name means the same without it."""
    return isinstance(item.unalias(), exp.Column) and item.unalias().name.lower() == name


def _expressions(parts: list[object]) -> list[exp.Expression]:
    flat = [one for part in parts for one in (part if isinstance(part, list) else [part])]
    return [one for one in flat if isinstance(one, exp.Expression)]
