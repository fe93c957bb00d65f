"""Query parts: what of a query makes one of its columns, so that another column's change is none of this one's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import sqlglot
from sqlglot import exp

from headwater.definitions.query_names import (
    aliases_used,
    has_star,
    hides_names,
    names_read,
    normalize,
    parts_of,
    relations_in,
    relations_of,
)

_ROWS = ("distinct", "limit", "offset", "qualify", "sample")
"""What of the outer SELECT chooses rows by all of its columns, or may."""
_MAKES_ROWS = (exp.Unnest, exp.Explode, exp.Posexplode)
"""Items that make rows, each with its own count of them."""
_MACROS = ("regexp_split_to_table", "generate_subscripts", "unnest")
"""DuckDB's macros that make rows, and `main.unnest(…)`, which SQLGlot takes for any function."""
_AGGREGATES = (exp.AggFunc, exp.List, exp.Anonymous)
"""Functions that are aggregates, or may be."""
_KEYS = (exp.Paren, exp.Tuple, exp.Rollup, exp.Cube, exp.GroupingSets)
"""What the keys of a GROUP BY may stand in."""


@dataclass(frozen=True, slots=True)
class Part:
    """What of a query makes some of its columns.

    Attributes:
        text: the query without its select items, then those that count, sorted; or the whole query.
        names: the columns that it may read are among these names, in lower case; None where they cannot be told.
    """

    text: tuple[str, ...]
    names: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class _Item:
    """One select item.

    Attributes:
        part: its text and the names in it.
        uses: the names that may be the alias of another item.
        is_computed: whether its name means something else, or nothing, without it.
    """

    part: Part
    uses: frozenset[str]
    is_computed: bool


@dataclass(frozen=True, slots=True)
class _Query:
    """A query whose items each make their own column alone.

    Attributes:
        rest: all but the items.
        uses: the names in the rest that may be the alias of an item.
        items: name → item.
        computed: the names of the items that are computed.
    """

    rest: Part
    uses: frozenset[str]
    items: Mapping[str, _Item]
    computed: frozenset[str]


@lru_cache(maxsize=1024)
def canonical_sql(query: str) -> str:
    """A query without comments, layout or letter case of keywords; as written where it does not parse."""
    tree = _parsed(query)
    return " ".join(query.split()) if tree is None else _text(tree)


def laid_out(query: str) -> str:
    """A query with a clause or select item a line, to be compared by people; as written where it does not parse."""
    tree = _parsed(query)
    return query if tree is None else tree.sql(dialect="duckdb", comments=False, pretty=True)


def part_of(query: str, columns: Iterable[str]) -> Part:
    """The query without the select items that none of some of its columns needs; their order means nothing.

    The whole query where an item may have a part in which rows there are (DISTINCT, GROUP BY ALL or by ordinals, a set
    operation, a star, QUALIFY, LIMIT, an item that makes rows), or where a column is not found among the items.
    """
    wanted, found = {name.lower() for name in columns}, _divided(query)
    if found is None or not wanted <= found.items.keys():
        return _whole(query)
    needed = [found.items[name].part for name in _needed(found, wanted)]
    text = (found.rest.text[0], *sorted(part.text[0] for part in needed))
    names = [part.names for part in (found.rest, *needed)]
    known = [some for some in names if some is not None]
    return Part(text, frozenset().union(*known) if len(known) == len(names) else None)


def names_of(query: str) -> frozenset[str] | None:
    """The columns that a query may read are among these names, in lower case; None where they cannot be told."""
    return _whole(query).names


@lru_cache(maxsize=8)
def _parsed(query: str) -> exp.Expression | None:
    """The tree of a query, which nobody changes."""
    try:
        tree = sqlglot.parse_one(query, dialect="duckdb")
    except sqlglot.errors.SqlglotError:
        return None
    assert isinstance(tree, exp.Expression)
    normalize(tree)
    return tree


def _text(tree: exp.Expression) -> str:
    return tree.sql(dialect="duckdb", comments=False, normalize_functions="upper")


@lru_cache(maxsize=1024)
def _whole(query: str) -> Part:
    tree = _parsed(query)
    names = None if tree is None or hides_names(tree, relations_in(tree)) else names_read(tree)
    return Part((canonical_sql(query),), names)


@lru_cache(maxsize=256)
def _divided(query: str) -> _Query | None:
    """The items and the rest of a query; None where an item may have a part in which rows there are."""
    tree = _parsed(query)
    if not isinstance(tree, exp.Select) or any(tree.args.get(part) for part in _ROWS) or _groups_by_items(tree):
        return None
    named = {item.alias_or_name.lower(): item for item in tree.expressions}
    if "" in named or len(named) < len(tree.expressions) or any(map(_makes_columns_or_rows, tree.expressions)):
        return None
    relations, own = relations_in(tree), relations_of(tree)
    items = {name: _item(name, item, relations, own) for name, item in named.items()}
    computed = frozenset(name for name, item in items.items() if item.is_computed)
    if tree.args.get("group") is None and not any(_reads_a_row(item, computed) for item in tree.expressions):
        return None
    rest = tree.copy()
    rest.set("expressions", [])
    rest.set("order", None)
    return _Query(_part(rest, relations), aliases_used(parts_of(rest)), items, computed)


def _item(name: str, item: exp.Expression, relations: frozenset[str], own: frozenset[str]) -> _Item:
    value: exp.Expression = item.this if isinstance(item, exp.Alias) else item
    is_plain = (
        isinstance(value, exp.Column)
        and value.name.lower() == name
        and not value.db
        and (not value.table or value.table.lower() in own)
    )
    return _Item(_part(item, relations), aliases_used([value]), not is_plain)


def _part(tree: exp.Expression, relations: frozenset[str]) -> Part:
    return Part((_text(tree),), None if hides_names(tree, relations) else names_read(tree))


def _groups_by_items(tree: exp.Select) -> bool:
    """Whether GROUP BY stands for items by their position, or for all of them."""
    group = tree.args.get("group")
    if group is None:
        return False
    return bool(group.args.get("all")) or has_star(group) or any(map(_is_ordinal, group.find_all(exp.Literal)))


def _is_ordinal(literal: exp.Literal) -> bool:
    parent = literal.parent
    while isinstance(parent, _KEYS):
        parent = parent.parent
    return isinstance(parent, exp.Group) and not literal.is_string


def _makes_columns_or_rows(item: exp.Expression) -> bool:
    return (
        has_star(item)
        or item.find(exp.Columns, *_MAKES_ROWS) is not None
        or any(call.name.lower() in _MACROS for call in item.find_all(exp.Anonymous))
    )


def _reads_a_row(item: exp.Expression, computed: frozenset[str]) -> bool:
    """Whether it reads a column outside of any aggregate: then the query does not make one row of all rows."""
    others, outer = computed - {item.alias_or_name.lower()}, item.find_ancestor(exp.Query)
    return any(
        column.name.lower() not in others and column.find_ancestor(exp.Query, *_AGGREGATES) is outer
        for column in item.find_all(exp.Column)
    )


def _needed(query: _Query, wanted: set[str]) -> set[str]:
    """The items wanted, and those that these, or the rest of the query, may name by their alias."""
    needed: set[str] = set()
    ahead = wanted | (query.uses & query.computed)
    while ahead:
        needed |= ahead
        ahead = {name for found in ahead for name in query.items[found].uses & query.computed} - needed
    return needed
