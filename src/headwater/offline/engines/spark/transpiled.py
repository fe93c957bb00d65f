"""Queries in DuckDB's dialect as Spark runs them: only what means the same there, value by value; else refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import pyarrow as pa
from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify
from sqlglot.schema import MappingSchema

from headwater.definitions.query_places import place_of
from headwater.errors import SourceError
from headwater.offline.engines.spark.words import name_sql
from headwater.offline.trees import Tree

_TYPES = exp.DataType.Type
_INTEGERS = {_TYPES.TINYINT, _TYPES.SMALLINT, _TYPES.INT, _TYPES.BIGINT}
_TEXTS = {_TYPES.VARCHAR, _TYPES.TEXT, _TYPES.CHAR}
_TIMES = {_TYPES.TIMESTAMP, _TYPES.TIMESTAMPTZ, _TYPES.TIMESTAMPLTZ, _TYPES.TIMESTAMPNTZ, _TYPES.DATETIME}
_INTEGER, _DECIMAL, _DOUBLE, _REAL, _TEXT, _BOOL, _TIME, _DATE, _NULL, _OTHER = (
    *("integer", "decimal", "double", "real", "text", "bool", "timestamp", "date", "null"),
    "other",
)
_NUMBERS = (_INTEGER, _DECIMAL, _DOUBLE, _REAL)
_ISO = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d:\d\d(\.\d{1,6})?)?")
_TRUNCATED = frozenset(("year", "quarter", "month", "week", "day", "hour", "minute", "second"))
_EXTRACTED = frozenset(("year", "month", "day", "hour", "minute"))
_STEPS = frozenset(("day", "days", "hour", "hours", "minute", "minutes", "second", "seconds", "week", "weeks"))
_PLAIN = (
    *(exp.Column, exp.Identifier, exp.Table, exp.TableAlias, exp.Alias, exp.Literal, exp.Boolean, exp.Null, exp.Paren),
    *(exp.From, exp.Where, exp.Having, exp.With, exp.Ordered, exp.DataType, exp.DataTypeParam, exp.Var, exp.Not),
    *(exp.And, exp.Or, exp.Filter, exp.Exists, exp.Tuple, exp.Interval, exp.Order),
)
"""What means the same wherever it stands."""
LISTED = (
    "+ - * /, comparisons, AND OR NOT, IS NULL, IN, BETWEEN, CASE, COALESCE, NULLIF, GREATEST, LEAST, ||, ABS, LENGTH, "
    "SUBSTRING, STARTS_WITH, DATE_TRUNC, EXTRACT, CAST, COUNT, SUM, AVG, MIN, MAX, and the window functions "
    "ROW_NUMBER, RANK, DENSE_RANK, LAG, LEAD"
)
"""What may be called, for people."""


class _Refused(Exception):
    """A node that may mean something else on Spark."""

    def __init__(self, node: Tree, why: str) -> None:
        self.node, self.why = node, why


def transpiled(query: str, tables: Mapping[str, tuple[str, pa.Schema]]) -> str:
    """A query in Spark's SQL.

    Args:
        query: one SELECT in DuckDB's dialect.
        tables: the name of each of its tables → its name in Spark, and its columns.

    Raises:
        SourceError: a part of the query that may mean something else on Spark, with its place.
    """
    try:
        tree = parse_one(query, dialect="duckdb")
        names = _output_names(tree, tables)
        schema = MappingSchema(dialect="duckdb")
        for name, (_, columns) in tables.items():
            schema.add_table(name, {f.name: _sql_type(f.type) for f in columns}, dialect="duckdb", match_depth=False)
        tree = qualify(tree, schema=schema, dialect="duckdb")
        tree = annotate_types(tree, schema=schema, dialect="duckdb")
    except SqlglotError as bad:
        raise SourceError(f"source.query: Spark cannot run it: {str(bad).splitlines()[0]}") from bad
    try:
        for node in tree.walk():
            _check(node)
    except _Refused as refused:
        place = place_of(query, tree, refused.node)
        shown = refused.node.sql(dialect="duckdb").replace('"', "")
        raise SourceError(
            f"source.query: {place}: {shown[:80]!r} {refused.why}: Spark and DuckDB could give different values; "
            f"allowed there: {LISTED}. Write it in another way, or as a query in Spark's own SQL"
        ) from None
    for node in reversed(
        list(tree.walk())
    ):  # what is inside first: a part that was rewritten is copied by what holds it
        made = _rewritten(node)
        if made is not node:
            node.replace(made)
    text = tree.sql(dialect="spark", identify=True)
    assert isinstance(tree, exp.Query)
    inner = ", ".join(f"{name_sql(name)} AS (SELECT * FROM {name_sql(own)})" for name, (own, _) in tables.items())
    columns = ", ".join(f"q.{name_sql(name)} AS {name_sql(names.get(name, name))}" for name in tree.named_selects)
    return f"WITH {inner} SELECT {columns} FROM ({text}) AS q"


def _output_names(tree: Tree, tables: Mapping[str, tuple[str, pa.Schema]]) -> dict[str, str]:
    """The names of the answer's columns as they are written, by those in lower case."""
    found = {name.lower(): name for _, columns in tables.values() for name in columns.names}
    # the outermost SELECT comes first
    for select in reversed(list(tree.find_all(exp.Select))):
        found |= {each.alias.lower(): each.alias for each in select.selects if isinstance(each, exp.Alias)}
    return found


def _sql_type(kind: pa.DataType) -> str:
    """DuckDB's name for the type of a column, as far as it decides what an operation means."""
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMPTZ" if kind.tz is not None else "TIMESTAMP"
    return _NAMES.get(kind, "BLOB")


_NAMES = {
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "REAL",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.string(): "VARCHAR",
    pa.date32(): "DATE",
}


_KINDS = {
    _TYPES.DECIMAL: _DECIMAL,
    _TYPES.DOUBLE: _DOUBLE,
    _TYPES.FLOAT: _REAL,
    _TYPES.BOOLEAN: _BOOL,
    _TYPES.DATE: _DATE,
    _TYPES.NULL: _NULL,
}


def _kind(node: Tree | None) -> str:
    """The family of a node's type."""
    node = _inside(node)
    if node is None or isinstance(node, exp.Null):
        return _NULL
    if isinstance(node, exp.Literal) and not node.is_string:
        return _INTEGER if node.is_int else _DOUBLE if "e" in node.name.lower() else _DECIMAL
    kind = node.type.this if node.type is not None else None
    if kind in _INTEGERS:
        return _INTEGER
    if kind in _TEXTS:
        return _TEXT
    if kind in _TIMES:
        return _TIME
    return _OTHER if kind is None else _KINDS.get(kind, _OTHER)


def _is_literal(node: Tree | None) -> bool:
    return isinstance(_inside(node), exp.Literal)


def _inside(node: Tree | None) -> Tree | None:
    """A node without the parentheses and signs before it."""
    while isinstance(node, (exp.Paren, exp.Neg)):
        node = node.this
    return node


def _check(node: Tree) -> None:
    """Refuse a node that may mean something else on Spark.

    Raises:
        _Refused: it may.
    """
    if isinstance(node, _PLAIN):
        return
    check = next((check for kind, check in _CHECKS.items() if type(node) is kind), None)
    if check is None:
        raise _Refused(node, "is not known to mean the same on Spark")
    for why in check(node):
        raise _Refused(node, why)


def _anything(node: Tree) -> Iterator[str]:
    yield from ()


def _only(*allowed: str) -> Callable[[Tree], Iterator[str]]:
    """A node with no other parts than these."""

    def check(node: Tree) -> Iterator[str]:
        for name, value in node.args.items():
            if value and name not in allowed:
                yield f"has {name.replace('_', ' ').upper()}"

    return check


def _join(node: Tree) -> Iterator[str]:
    if node.args.get("method") or node.args.get("kind", "").upper() not in ("", "INNER", "OUTER", "CROSS"):
        yield "is another kind of join than INNER, LEFT, RIGHT, FULL and CROSS"
    yield from _only("this", "side", "kind", "on")(node)


def _subquery(node: Tree) -> Iterator[str]:
    if not isinstance(node.parent, (exp.From, exp.Join, exp.CTE, exp.In, exp.Exists, exp.Union, exp.Subquery)):
        yield "is a query in place of a value"


def _compared(*nodes: Tree | None) -> bool:
    """Whether values are compared as they are, or in one obvious way."""
    kinds = {_kind(node) for node in nodes} - {_NULL}
    if _OTHER in kinds:
        return False
    if kinds <= set(_NUMBERS):
        # a float32 beside another number is compared as a float in one, as a double in the other
        return _REAL not in kinds or len(kinds) == 1
    if len(kinds) == 1:
        return True
    texts = [node for node in nodes if _kind(node) == _TEXT]
    return kinds in ({_TIME, _TEXT}, {_DATE, _TEXT}) and all(
        isinstance(node, exp.Literal) and _ISO.fullmatch(node.name) for node in texts
    )


def _same(node: Tree) -> Iterator[str]:
    """Values that are compared with, or chosen among, one another."""
    query = node.args.get("query")
    if query is None:
        yield from _mixed(*node.iter_expressions())
        return
    given = node.this.expressions if isinstance(node.this, exp.Tuple) else [node.this]
    yield from _aligned([given, *_selected(query)])


def _union(node: Tree) -> Iterator[str]:
    """Rows of several queries, of which each column has one type."""
    yield from _only("this", "expression", "distinct", "with_", "with", "order")(node)
    yield from _aligned(_selected(node))


def _selected(query: Tree) -> list[list[Tree]]:
    """What each SELECT of a query gives."""
    if isinstance(query, exp.Union):
        return [*_selected(query.this), *_selected(query.expression)]
    if isinstance(query, exp.Subquery):
        return _selected(query.this)
    return [[each.unalias() for each in query.selects]] if isinstance(query, exp.Query) else []


def _aligned(rows: list[list[Tree]]) -> Iterator[str]:
    """Values, grouped by position: those of a group become one type."""
    for nodes in zip(*rows, strict=False):
        kinds = {_kind(node) for node in nodes} - {_NULL}
        same = len({node.type for node in nodes}) == 1 if kinds == {_OTHER} else len(kinds) < 2
        if not same and not (kinds <= set(_NUMBERS) and _REAL not in kinds):
            yield "mixes types that are converted in another way"
            return


def _case(node: Tree) -> Iterator[str]:
    branches = [branch.args["true"] for branch in node.args.get("ifs", ())] or [node.args.get("true")]
    yield from _mixed(*branches, node.args.get("default") or node.args.get("false"))
    if isinstance(node, exp.Case) and node.this is not None:
        yield from _mixed(node.this, *[branch.this for branch in node.args["ifs"]])


def _mixed(*nodes: Tree | None) -> Iterator[str]:
    if not _compared(*nodes):
        yield "mixes types that are converted in another way"


def _arithmetic(node: Tree) -> Iterator[str]:
    left, right = node.this, node.expression
    if isinstance(right, exp.Interval) and not isinstance(node, exp.Mul):
        written = isinstance(right.this, exp.Literal) and re.fullmatch(r"\d+", right.this.name)
        if _kind(left) != _TIME or not written or right.text("unit").lower() not in _STEPS:
            yield "is not a timestamp and a whole number of days, hours, minutes or seconds"
        return
    kinds = {_kind(left), _kind(right)}
    if not kinds <= {*_NUMBERS, _NULL}:
        yield "is not arithmetic of numbers"
    elif _REAL in kinds and kinds != {_REAL}:
        yield "mixes a 32-bit float with another number"
    elif any(_kind(side) == _DECIMAL and not _is_literal(side) for side in (left, right)) and _DOUBLE not in kinds:
        yield "computes with decimals, of which Spark keeps other digits (CAST them to DOUBLE)"


def _division(node: Tree) -> Iterator[str]:
    below = _inside(node.expression)
    safe = isinstance(below, exp.Nullif) and isinstance(below.expression, exp.Literal) and below.expression.name == "0"
    if not safe and not (isinstance(below, exp.Literal) and not below.is_string and float(below.name) != 0):
        yield "divides by what may be 0 (write / NULLIF(…, 0))"
    elif not {_kind(node.this), _kind(below)} <= {_INTEGER, _DECIMAL, _DOUBLE, _NULL}:
        yield "does not divide integers, decimals or doubles"


def _remainder(node: Tree) -> Iterator[str]:
    below = _inside(node.expression)
    whole = {_kind(node.this), _kind(below)} == {_INTEGER}
    if not isinstance(below, exp.Literal) or not whole or int(below.name) == 0:
        yield "is not the remainder of an integer by a number other than 0 that is written out"


def _numbers(node: Tree) -> Iterator[str]:
    value = node.this.expressions[0] if isinstance(node.this, exp.Distinct) else node.this
    if _kind(value) not in _NUMBERS:
        yield "is not of numbers"
    elif _kind(value) == _DECIMAL:
        yield "computes with decimals, of which Spark keeps other digits (CAST them to DOUBLE)"


def _ordered(node: Tree) -> Iterator[str]:
    if _kind(node.this) in (_OTHER, _NULL):
        yield "is of values that are ordered in another way"


def _texts(node: Tree) -> Iterator[str]:
    if any(_kind(value) != _TEXT for value in node.iter_expressions()):
        yield "is not of text"


def _substring(node: Tree) -> Iterator[str]:
    bounds = [node.args.get("start"), node.args.get("length")]
    whole = all(b is None or (isinstance(b, exp.Literal) and not b.is_string and b.is_int) for b in bounds)
    if _kind(node.this) != _TEXT or not whole or bounds[0] is None or int(bounds[0].name) < 1:
        yield "is not a part of a text from a character 1 or later on"


def _truncation(node: Tree) -> Iterator[str]:
    if _kind(node.this) != _TIME or node.text("unit").lower() not in _TRUNCATED or node.args.get("zone"):
        yield f"is not a timestamp cut to one of {', '.join(sorted(_TRUNCATED))}"


def _extraction(node: Tree) -> Iterator[str]:
    if node.name.lower() not in _EXTRACTED or _kind(node.expression) not in (_TIME, _DATE):
        yield f"is not one of {', '.join(sorted(_EXTRACTED))} of a time"
    elif _kind(node.expression) == _DATE and node.name.lower() not in ("year", "month", "day"):
        yield "is the hour of a date"


def _of_time(node: Tree) -> Iterator[str]:
    if _kind(node.this) not in (_TIME, _DATE):
        yield "is not of a time"


def _cast(node: Tree) -> Iterator[str]:
    given, wanted = _kind(node.this), _kind(node)
    if isinstance(node.this, exp.Literal) and node.this.is_string:
        if wanted not in (_TIME, _DATE, _TEXT) or (wanted != _TEXT and not _ISO.fullmatch(node.this.name)):
            yield "is not a text in the form 2026-01-31 or 2026-01-31 12:00:00"
        return
    allowed = {
        _DOUBLE: (_INTEGER, _DOUBLE, _DECIMAL, _REAL, _NULL),
        _INTEGER: (_INTEGER, _NULL),
        _TEXT: (_TEXT, _NULL),
        _BOOL: (_BOOL, _NULL),
        _TIME: (_TIME, _DATE, _NULL),
        _DATE: (_DATE, _TIME, _NULL),
    }
    if given not in allowed.get(wanted, ()):
        yield "is a cast that rounds, reads or writes values in another way"


def _window(node: Tree) -> Iterator[str]:
    function = node.this
    ranked = (exp.RowNumber, exp.Rank, exp.DenseRank, exp.Lag, exp.Lead)
    if not isinstance(function, (*ranked, exp.Sum, exp.Count, exp.Min, exp.Max, exp.Avg)):
        yield "is another window function than those allowed"
    if node.args.get("alias") or node.args.get("first"):
        yield "names a window"


def _frame(node: Tree) -> Iterator[str]:
    if node.text("kind").upper() != "ROWS" or node.args.get("exclude"):
        yield "is a frame that is not of ROWS"


def _beside(node: Tree) -> Iterator[str]:
    yield from _mixed(node.this, node.args.get("default"))
    offset = node.args.get("offset")
    if offset is not None and not (isinstance(offset, exp.Literal) and offset.is_int):
        yield "looks back by a number that is not written out"


_CHECKS: Mapping[type, Callable[[Tree], Iterator[str]]] = {
    exp.Select: _only(
        "expressions", "from_", "from", "joins", "where", "group", "having", "distinct", "with_", "with", "order"
    ),
    exp.Union: _union,
    exp.CTE: _only("this", "alias"),
    exp.Subquery: _subquery,
    exp.Join: _join,
    exp.Group: _only("expressions"),
    exp.Distinct: _only("expressions"),
    exp.Star: _only(),
    **dict.fromkeys((exp.Case, exp.If), _case),
    **dict.fromkeys((exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ), _same),
    **dict.fromkeys((exp.In, exp.Between, exp.Coalesce, exp.Nullif, exp.Greatest, exp.Least), _same),
    exp.Is: _anything,
    **dict.fromkeys((exp.Add, exp.Sub, exp.Mul), _arithmetic),
    exp.Neg: _numbers,
    exp.Div: _division,
    exp.Mod: _remainder,
    exp.Count: _anything,
    **dict.fromkeys((exp.Sum, exp.Avg, exp.Abs), _numbers),
    **dict.fromkeys((exp.Min, exp.Max), _ordered),
    exp.DPipe: _texts,
    exp.Length: _texts,
    exp.StartsWith: _texts,
    exp.Substring: _substring,
    **dict.fromkeys((exp.TimestampTrunc, exp.DateTrunc), _truncation),
    exp.Extract: _extraction,
    **dict.fromkeys((exp.Year, exp.Month, exp.Day, exp.DayOfMonth), _of_time),
    exp.Cast: _cast,
    exp.Window: _window,
    exp.WindowSpec: _frame,
    **dict.fromkeys((exp.RowNumber, exp.Rank, exp.DenseRank), _anything),
    **dict.fromkeys((exp.Lag, exp.Lead), _beside),
}


def _rewritten(node: Tree) -> Tree:
    """What SQLGlot does not say, in Spark's words."""
    if isinstance(node, exp.Div):
        left, right = (exp.cast(exp.paren(side.copy()), "double") for side in (node.this, node.expression))
        divided = exp.Div(this=left, expression=right)
        divided.set("typed", False)
        divided.set("safe", False)
        divided.type = _TYPES.DOUBLE
        return exp.Paren(this=divided)
    if isinstance(node, exp.Literal) and _kind(node) == _DECIMAL and _beside_doubles(node):
        return exp.cast(node.copy(), "double")
    if isinstance(node, exp.Avg) and not isinstance(node.this, (exp.Distinct, exp.Cast)):
        mean = exp.Avg(this=exp.cast(node.this.copy(), "double"))
        mean.type = _TYPES.DOUBLE
        return mean
    return node


def _beside_doubles(literal: Tree) -> bool:
    """Whether a decimal that is written out is computed with, compared with or chosen beside doubles."""
    parent = literal.parent
    while isinstance(parent, (exp.Paren, exp.Neg, exp.If)):
        parent = parent.parent
    if parent is None or isinstance(parent, (exp.Cast, exp.Select, exp.Alias)):
        return False
    found = list(parent.iter_expressions())
    found += [branch.args["true"] for branch in found if isinstance(branch, exp.If)]
    return any(_kind(each) == _DOUBLE for each in found)
