"""Rule 5: of source rows equal in key and times that of the greatest event id, where the source has one, then the
greatest, compared feature by feature in order of name.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from sqlglot import exp

from headwater.definitions.feature import Feature
from headwater.offline.join.relations import ViewRelations
from headwater.offline.join.workspace import Workspace, copied, created
from headwater.offline.trees import Tree, column, is_not_null, number, table_named, union_all
from headwater.types import DType


def heads(picked: str, spine: exp.Select, rows: ViewRelations) -> exp.Select:
    """(k0…, event, created, ordinal): each picked row beside which an equal one stands.

    A log row has none, for its position decides.

    Args:
        picked: rn, ordinal, event, and `tied`: the created time of a row that has an equal one, else NULL.
        spine: rn and the keys k0….
        rows: the view's rows.
    """
    columns = [*[column(n, "s") for n in rows.key_names], column("event", "p"), column("tied", "p").as_("created")]
    return (
        exp.select(*columns, column("ordinal", "p"))
        .distinct(copy=False)
        .from_(table_named(picked).as_("p"), copy=False)
        .join(spine.subquery("s", copy=False), on=column("rn", "p").eq(column("rn", "s")), copy=False)
        .where(is_tied(rows), copy=False)
    )


def is_tied(rows: ViewRelations) -> Tree:
    """Whether an equal source row exists beside the picked row p; of log rows the position decides."""
    if rows.source is None:
        return exp.false()
    return exp.and_(is_not_null(column("tied", "p")), column("ordinal", "p") < number(rows.source_size), copy=False)


def newest_heads(newest: str, rows: ViewRelations, lower: int | None = None, upper: int | None = None) -> exp.Select:
    """The same of a table of (the names of a row, tie) without times; see `members` for the bounds."""
    names = [*rows.key_names, "event", "created", "ordinal"]
    ties = exp.select(*[column(n) for n in rows.row_names]).from_(table_named(newest), copy=False)
    ties = ties.where(column("tie"), column("ordinal") < number(rows.source_size), copy=False)
    return (
        exp.select(*[column(n, "n") for n in names])
        .from_(rows.narrow(lower, upper).subquery("n", copy=False), copy=False)
        .join(ties.subquery("x", copy=False), on=rows.same_row("n", "x"), join_type="semi", copy=False)
    )


def equal_rows(picked: str, rows: ViewRelations) -> exp.Select:
    """The picked ordinals beside which an equal source row stands, looked up by key and times."""
    keys = rows.key_names
    heads = (
        exp.select(*[column(n) for n in (*keys, "event", "created", "ordinal")])
        .distinct(copy=False)
        .from_(table_named(picked), copy=False)
    )
    heads = heads.where(column("ordinal") < number(rows.source_size), copy=False)
    on = _same(keys, "h", "r")
    return (
        exp.select(column("ordinal", "h").as_("ordinal"))
        .distinct(copy=False)
        .from_(heads.subquery("h", copy=False), copy=False)
        .join(
            rows.narrow().subquery("r", copy=False),
            on=exp.and_(on, column("ordinal", "r") < column("ordinal", "h"), copy=False),
            copy=False,
        )
    )


def marked(picked: str, equal: str) -> exp.Select:
    """`picked` with `tied`, from the ordinals that have an equal row beside them."""
    tied = exp.Case().when(is_not_null(column("ordinal", "x")), column("created", "p"), copy=False)
    return (
        exp.select(column("rn", "p"), column("ordinal", "p"), column("event", "p"), tied.as_("tied", copy=False))
        .from_(table_named(picked).as_("p"), copy=False)
        .join(
            table_named(equal).as_("x"),
            on=column("ordinal", "p").eq(column("ordinal", "x")),
            join_type="left",
            copy=False,
        )
    )


def _same(keys: Sequence[str], left: str, right: str) -> Tree:
    return exp.and_(*[column(n, left).eq(column(n, right)) for n in (*keys, "event", "created")], copy=False)


def members(
    rows: ViewRelations, heads: str, features: Sequence[Feature], lower: int | None = None, upper: int | None = None
) -> exp.Select:
    """(head, ordinal, f0…, event_id): every source row that ties with a head, the head among them.

    Its features are by name; event_id is there where the source has one; and the keys where ordinals are counted
    within them.

    Args:
        rows: the view's rows.
        heads: a table from `heads` or `newest_heads`.
        features: every feature of the view.
        lower, upper: event times outside of these need not be read.
    """
    names = sorted(f.name for f in features)
    values = [column(f"f{i}", "r").as_(f"f{i}", quoted=True) for i in range(len(names))]
    if rows.event_id:
        values.append(column("event_id", "r").as_("event_id", quoted=True))
    within = [column(n, "r") for n in rows.row_names[:-1]]
    return (
        exp.select(*within, column("ordinal", "h").as_("head"), column("ordinal", "r").as_("ordinal"), *values)
        .from_(table_named(heads).as_("h"), copy=False)
        .join(
            rows.narrow(lower, upper, features=names, event_id=rows.event_id).subquery("r", copy=False),
            on=_same(rows.key_names, "h", "r"),
            copy=False,
        )
        .where(column("ordinal", "r") < number(rows.source_size), copy=False)
    )


def mates(rows: ViewRelations, heads: str, lower: int | None, upper: int | None) -> exp.Select:
    """(head, ordinal): every source row that ties with a head, the head among them, by keys and times alone."""
    return (
        exp.select(column("ordinal", "h").as_("head"), column("ordinal", "r").as_("ordinal"))
        .from_(table_named(heads).as_("h"), copy=False)
        .join(rows.narrow(lower, upper).subquery("r", copy=False), on=_same(rows.key_names, "h", "r"), copy=False)
        .where(column("ordinal", "r") < number(rows.source_size), copy=False)
    )


def mates_in(equal: str, heads: str) -> exp.Select:
    """The same from a table that has them of every row."""
    on = column("head", "m").eq(column("ordinal", "h"))
    return (
        exp.select(column("head", "m"), column("ordinal", "m"))
        .from_(table_named(equal).as_("m"), copy=False)
        .join(table_named(heads).as_("h"), on=on, join_type="semi", copy=False)
    )


def read_once(rows: ViewRelations, picked: str, mates: str, names: Sequence[str]) -> exp.Select:
    """(ordinal, f0…): the features named, of picked rows and of those that tie with them, from one scan."""
    ordinals = [exp.select(column("ordinal")).from_(table_named(table), copy=False) for table in (picked, mates)]
    return (
        exp.select(exp.Star())
        .from_(rows.wide(names).subquery("w", copy=False), copy=False)
        .join(
            union_all(ordinals).subquery("o", copy=False),
            on=column("ordinal", "w").eq(column("ordinal", "o")),
            join_type="semi",
            copy=False,
        )
    )


def read_members(mates: str, read: str, features: int) -> exp.Select:
    """`members` from tables of `mates` and `read_once`."""
    values = [column(f"f{i}", "r") for i in range(features)]
    return (
        exp.select(column("head", "m"), column("ordinal", "m"), *values)
        .from_(table_named(mates).as_("m"), copy=False)
        .join(table_named(read).as_("r"), on=column("ordinal", "m").eq(column("ordinal", "r")), copy=False)
    )


def member_schema(rows: ViewRelations, features: Sequence[Feature]) -> pa.Schema:
    """The columns of `members` in Arrow's types, for engines that settle ties elsewhere."""
    fields = [(name, rows.types[name]) for name in rows.row_names[:-1]]
    fields += [("head", pa.int64()), ("ordinal", pa.int64())]
    fields += [(f"f{i}", f.dtype.arrow) for i, f in enumerate(sorted(features, key=lambda f: f.name))]
    return pa.schema([*fields, *([("event_id", rows.types["event_id"])] if rows.event_id else ())])


def decide(
    space: Workspace,
    label: str,
    rows: ViewRelations,
    heads: str,
    features: Sequence[Feature],
    lower: int | None = None,
    upper: int | None = None,
    query: exp.Select | None = None,
) -> str:
    """The table of `winners` of some heads, settled where the engine's powers say.

    Args:
        space: the run's tables.
        label: part of their names.
        rows, heads, features, lower, upper: as of `members`.
        query: that of `members`, where another is to take its place.
    """
    query = members(rows, heads, features, lower, upper) if query is None else query
    found = created(space, f"members_{label}", query)
    settler = space.settler
    if settler is not space:
        found = copied(space, found, settler, f"members_{label}", member_schema(rows, features))
    ordered = created(settler, f"ranked_{label}", ranked(found, rows, features))
    won = created(settler, f"winners_{label}", winners(ordered, rows, features))
    if settler is space:
        return won
    fields = [(name, rows.types[name]) for name in rows.row_names[:-1]]
    schema = pa.schema([*fields, ("head", pa.int64()), ("winner", pa.int64()), ("by_features", pa.int64())])
    return copied(settler, won, space, f"winners_{label}", schema)


def ranked(members: str, rows: ViewRelations, features: Sequence[Feature]) -> exp.Select:
    """(head, ordinal, place, e0…, v0…): the rows of each head in the order of rule 5, with what orders them.

    Args:
        members: a table from `members`.
        rows: the view's rows; e0… are of the source's event id, where it has one.
        features: every feature of the view.
    """
    within = [column(n, "m") for n in (*rows.row_names[:-1], "head")]
    ordered = sorted(features, key=lambda f: f.name)
    ids = _event_id_keys(column("event_id", "m")) if rows.event_id else []
    values = [key for i, f in enumerate(ordered) for key in sort_keys(column(f"f{i}", "m"), f.dtype)]
    order = [exp.Ordered(this=key.copy(), desc=True) for key in (*ids, *values, column("ordinal", "m"))]
    place = exp.Window(this=exp.RowNumber(), partition_by=within, order=exp.Order(expressions=order))
    names = [f"e{i}" for i in range(len(ids))] + [f"v{i}" for i in range(len(values))]
    keys = [key.as_(name, quoted=True, copy=False) for key, name in zip([*ids, *values], names, strict=True)]
    every = exp.select(*[n.copy() for n in within], column("ordinal", "m"), place.as_("place", copy=False), *keys)
    return every.from_(table_named(members).as_("m"), copy=False)


def winners(ranked: str, rows: ViewRelations, features: Sequence[Feature]) -> exp.Select:
    """(head, winner, by_features): for each head the ordinal of the row that rule 5 chooses.

    `by_features`: only the features decided, between rows of the same event id, if any.

    Args:
        ranked: a table from `ranked`.
        rows, features: as there.
    """
    within = (*rows.row_names[:-1], "head")
    ids = len(_event_id_keys(exp.Null())) if rows.event_id else 0
    values = sum(len(sort_keys(exp.Null(), f.dtype)) for f in features)
    same = [exp.NullSafeEQ(this=column(f"e{i}", "a"), expression=column(f"e{i}", "b")) for i in range(ids)]
    other = [exp.NullSafeNEQ(this=column(f"v{i}", "a"), expression=column(f"v{i}", "b")) for i in range(values)]
    there = column("place", "b") > number(1)
    decided = exp.Max(
        this=exp.Case()
        .when(exp.and_(there, *same, exp.or_(*other, copy=False), copy=False), number(1), copy=False)
        .else_(number(0), copy=False)
    )
    return (
        exp.select(
            *[column(n, "a") for n in within],
            column("ordinal", "a").as_("winner"),
            decided.as_("by_features", copy=False),
        )
        .from_(table_named(ranked).as_("a"), copy=False)
        .join(
            table_named(ranked).as_("b"),
            on=exp.and_(*[column(n, "a").eq(column(n, "b")) for n in within], copy=False),
            copy=False,
        )
        .where(column("place", "a").eq(number(1)), copy=False)
        .group_by(*[column(n, "a") for n in within], column("ordinal", "a"), copy=False)
    )


def _of_head(rows: ViewRelations) -> Tree:
    """The condition that w decides the picked row p."""
    same = [column(n, "p").eq(column(n, "w")) for n in rows.row_names[:-1]]
    return exp.and_(*same, column("ordinal", "p").eq(column("head", "w")), copy=False)


def by_features(picked: str, winners: str, rows: ViewRelations) -> exp.Select:
    """How many of the picked rows only the features decided."""
    return (
        exp.select(exp.Count(this=exp.Star()))
        .from_(table_named(picked).as_("p"), copy=False)
        .join(table_named(winners).as_("w"), on=_of_head(rows), copy=False)
        .where(column("by_features", "w").eq(number(1)), copy=False)
    )


def settled(picked: str, winners: str, rows: ViewRelations, names: Sequence[str]) -> exp.Select:
    """The picked rows, each tied one by its winner: the columns named, and the names of the row."""
    names = [*names, *rows.row_names[:-1]]
    ordinal = exp.Coalesce(this=column("winner", "w"), expressions=[column("ordinal", "p")])
    return (
        exp.select(*[column(name, "p") for name in names], ordinal.as_("ordinal", copy=False))
        .from_(table_named(picked).as_("p"), copy=False)
        .join(table_named(winners).as_("w"), on=_of_head(rows), join_type="left", copy=False)
    )


def sort_keys(value: Tree, dtype: DType) -> list[Tree]:
    """Expressions, none of them NULL first or last by an engine's own rule, that order values as rule 5 says.

    NULL lowest, then numbers, NaN highest; text by its UTF-8 bytes; arrays by element, a NULL element lowest, a
    beginning before the whole.
    """
    present = exp.Case().when(is_not_null(value), number(1), copy=False).else_(number(0), copy=False)
    if dtype.name in ("float32", "float64"):
        nan = exp.Case().when(exp.IsNan(this=value.copy()), number(1), copy=False).else_(number(0), copy=False)
        return [present, nan, value.copy()]
    if dtype.name == "array" and dtype.element is not None:
        return [present, _elements(value.copy(), dtype.element)]
    return [present, value.copy()]


def _event_id_keys(value: Tree) -> list[Tree]:
    """What orders event ids: NULL lowest, then by their own type, floats with NaN highest (DuckDB's own order)."""
    return [exp.Case().when(is_not_null(value), number(1), copy=False).else_(number(0), copy=False), value.copy()]


def _elements(value: Tree, dtype: DType) -> Tree:
    """An array as an array of comparable structs, one an element."""
    element = exp.to_identifier("x")
    x = exp.column(element.copy())
    fields = [
        exp.PropertyEQ(this=exp.to_identifier(f"p{i}"), expression=key) for i, key in enumerate(sort_keys(x, dtype))
    ]
    # DuckDB writes a colon, which SQLGlot adds by itself from 30.25 on; other dialects write an arrow all the same
    each = exp.Lambda(this=exp.Struct(expressions=fields), expressions=[element], colon=True)
    return exp.Transform(this=value, expression=each)
