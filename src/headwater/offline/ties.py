"""Rule 5: of source rows equal in key and times the greatest, compared feature by feature in order of name."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from headwater.definitions.feature import Feature
from headwater.offline.relations import Tree, ViewRows, column, is_not_null, number
from headwater.types import DType


def heads(picked: str, spine: exp.Select, rows: ViewRows) -> exp.Select:
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
        .distinct()
        .from_(exp.to_table(picked).as_("p"))
        .join(spine.subquery("s"), on=column("rn", "p").eq(column("rn", "s")))
        .where(is_not_null(column("tied", "p")), column("ordinal", "p") < number(rows.source_size))
    )


def newest_heads(newest: str, rows: ViewRows, lower: int | None = None, upper: int | None = None) -> exp.Select:
    """The same of a table of (ordinal, tie) that knows neither keys nor times; see `members` for the bounds."""
    names = [*rows.key_names, "event", "created", "ordinal"]
    ties = exp.select(column("ordinal")).from_(exp.to_table(newest))
    ties = ties.where(column("tie"), column("ordinal") < number(rows.source_size))
    return (
        exp.select(*[column(n, "n") for n in names])
        .from_(rows.narrow(lower, upper).subquery("n"))
        .join(ties.subquery("x"), on=column("ordinal", "n").eq(column("ordinal", "x")), join_type="semi")
    )


def found(picked: str, rows: ViewRows) -> exp.Select:
    """The picked ordinals beside which an equal source row stands, looked up by key and times."""
    keys = rows.key_names
    heads = (
        exp.select(*[column(n) for n in (*keys, "event", "created", "ordinal")]).distinct().from_(exp.to_table(picked))
    )
    heads = heads.where(column("ordinal") < number(rows.source_size))
    on = _same(keys, "h", "r")
    return (
        exp.select(column("ordinal", "h").as_("ordinal"))
        .distinct()
        .from_(heads.subquery("h"))
        .join(rows.narrow().subquery("r"), on=exp.and_(on, column("ordinal", "r") < column("ordinal", "h")))
    )


def marked(picked: str, equal: str) -> exp.Select:
    """`picked` with `tied`, from the ordinals that have an equal row beside them."""
    tied = exp.Case().when(is_not_null(column("ordinal", "x")), column("created", "p"))
    return (
        exp.select(column("rn", "p"), column("ordinal", "p"), column("event", "p"), tied.as_("tied"))
        .from_(exp.to_table(picked).as_("p"))
        .join(exp.to_table(equal).as_("x"), on=column("ordinal", "p").eq(column("ordinal", "x")), join_type="left")
    )


def _same(keys: Sequence[str], left: str, right: str) -> Tree:
    return exp.and_(*[column(n, left).eq(column(n, right)) for n in (*keys, "event", "created")])


def members(
    rows: ViewRows, heads: str, features: Sequence[Feature], lower: int | None = None, upper: int | None = None
) -> exp.Select:
    """(head, ordinal, f0…): every source row that ties with a head, the head among them, and its features by name.

    Args:
        rows: the view's rows.
        heads: a table from `heads` or `newest_heads`.
        features: every feature of the view.
        lower, upper: event times outside of these need not be read.
    """
    names = sorted(f.name for f in features)
    values = [column(f"f{i}", "r").as_(f"f{i}", quoted=True) for i in range(len(names))]
    return (
        exp.select(column("ordinal", "h").as_("head"), column("ordinal", "r").as_("ordinal"), *values)
        .from_(exp.to_table(heads).as_("h"))
        .join(rows.narrow(lower, upper, features=names).subquery("r"), on=_same(rows.key_names, "h", "r"))
        .where(column("ordinal", "r") < number(rows.source_size))
    )


def winners(members: str, features: Sequence[Feature]) -> exp.Select:
    """(head, winner): for each head the ordinal of the row that rule 5 chooses.

    Args:
        members: a table from `members`.
        features: every feature of the view.
    """
    ordered = sorted(features, key=lambda f: f.name)
    keys = [key for i, f in enumerate(ordered) for key in sort_keys(column(f"f{i}", "m"), f.dtype)]
    order = [exp.Ordered(this=key, desc=True) for key in (*keys, column("ordinal", "m"))]
    place = exp.Window(this=exp.RowNumber(), partition_by=[column("head", "m")], order=exp.Order(expressions=order))
    ranked = exp.select(column("head", "m"), column("ordinal", "m").as_("winner"), place.as_("place"))
    ranked = ranked.from_(exp.to_table(members).as_("m"))
    return exp.select(column("head"), column("winner")).from_(ranked.subquery("q")).where(column("place").eq(number(1)))


def settled(picked: str, winners: str, names: Sequence[str]) -> exp.Select:
    """The picked rows, each tied one by its winner: the columns named, and ordinal."""
    ordinal = exp.Coalesce(this=column("winner", "w"), expressions=[column("ordinal", "p")])
    return (
        exp.select(*[column(name, "p") for name in names], ordinal.as_("ordinal"))
        .from_(exp.to_table(picked).as_("p"))
        .join(exp.to_table(winners).as_("w"), on=column("ordinal", "p").eq(column("head", "w")), join_type="left")
    )


def sort_keys(value: Tree, dtype: DType) -> list[Tree]:
    """Expressions, none of them NULL first or last by an engine's own rule, that order values as rule 5 says.

    NULL lowest, then numbers, NaN highest; text by its UTF-8 bytes; arrays by element, a NULL element lowest, a
    beginning before the whole.
    """
    present = exp.Case().when(is_not_null(value), number(1)).else_(number(0))
    if dtype.name in ("float32", "float64"):
        nan = exp.Case().when(exp.IsNan(this=value.copy()), number(1)).else_(number(0))
        return [present, nan, value.copy()]
    if dtype.name == "array" and dtype.element is not None:
        return [present, _elements(value.copy(), dtype.element)]
    return [present, value.copy()]


def _elements(value: Tree, dtype: DType) -> Tree:
    """An array as an array of comparable structs, one an element."""
    element = exp.to_identifier("x")
    x = exp.column(element.copy())
    fields = [
        exp.PropertyEQ(this=exp.to_identifier(f"p{i}"), expression=key) for i, key in enumerate(sort_keys(x, dtype))
    ]
    return exp.Transform(this=value, expression=exp.Lambda(this=exp.Struct(expressions=fields), expressions=[element]))
