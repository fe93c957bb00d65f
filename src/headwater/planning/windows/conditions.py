"""Which events the conditions of a version's aggregations hold for: one evaluator, on Arrow, for history and writes.

NULL is neither true nor false, as in SQL, and what is not true does not hold. NaN equals NaN and is the greatest
number, as in the order of values everywhere. A whole number is compared with a float as a float; where whole numbers
give one beyond 64 bits, it is NULL.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from headwater.deferred import deferred
from headwater.definitions.condition_checks import as_time, kind_of
from headwater.definitions.conditions import (
    Arithmetic,
    Column,
    Comparison,
    Every,
    IsNull,
    Literal,
    Not,
    OneOf,
    Some,
    Term,
    condition_columns,
    parse_condition,
)
from headwater.types import DType
from headwater.values import Value

if TYPE_CHECKING:
    import pyarrow.compute as pc
    from numpy.typing import NDArray
else:
    pc = deferred("pyarrow.compute")

Operand: TypeAlias = pa.Scalar | pa.Array | pa.ChunkedArray
_INT64, _FLOAT64 = pa.int64(), pa.float64()
_FORMS = {
    "int32": _INT64,
    "float32": _FLOAT64,
    "bool": pa.int8(),
    "timestamp": _INT64,
    "date": pa.int32(),
}
"""What columns of a dtype are compared as, where that is not their own Arrow type."""
_FEW = 8
"""Up to how many literals a value is compared with one by one."""


class Conditions(Value, frozen=True, dict=True):
    """Conditions over the rows of one source.

    Attributes:
        texts: the conditions, in the order of the answers.
        columns: the dtypes of the source's columns.
    """

    texts: tuple[str, ...]
    columns: Mapping[str, DType]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns that they read."""
        return tuple(dict.fromkeys(name for text in self.texts for name in condition_columns(text)))

    def holds(self, table: pa.Table | pa.RecordBatch) -> list[NDArray[np.bool_]]:
        """Whether each condition is true of each row: an array for each, in their order.

        Args:
            table: rows that have `names`, each in the Arrow type of its dtype or one that is cast to it.

        Raises:
            pyarrow.ArrowInvalid: a value that is not one of its column's dtype.
        """
        if not self.texts:
            return []
        rows = _Rows(table, self.columns)
        return [rows.truth(parse_condition(text)) for text in self.texts]


def conditions(texts: Iterable[str], columns: Mapping[str, DType]) -> Conditions:
    """Conditions, sound ones (`definitions.condition_checks`), over columns of these dtypes."""
    return Conditions(tuple(texts), columns)


class _Rows:
    """The terms of conditions over some rows; each column is cast once."""

    def __init__(self, table: pa.Table | pa.RecordBatch, columns: Mapping[str, DType]) -> None:
        self._table = table
        self._columns = columns
        self._cast: dict[str, Operand] = {}

    def truth(self, term: Term) -> NDArray[np.bool_]:
        found = self._term(term)
        if isinstance(found, pa.Scalar):
            return np.full(self._table.num_rows, bool(found.as_py()))
        found = _as_bool(found)
        made: NDArray[np.bool_] = np.asarray(pc.fill_null(found, False))
        return made

    def _term(self, term: Term) -> Operand:
        match term:
            case Column(name):
                return self._column(name)
            case Literal():
                return _literal(term, term.kind)
            case Arithmetic(sign, left, right):
                return _calculated(sign, self._term(left), self._term(right))
            case Comparison(sign, left, right):
                return _compared(sign, *self._pair(left, right))
            case OneOf(value, literals):
                return self._one_of(value, literals)
            case IsNull(value):
                return pc.is_null(self._term(value))
            case Not(value):
                return pc.invert(self._bool(value))
            case Every(parts):
                return self._joined(pc.and_kleene, parts)
            case Some(parts):
                return self._joined(pc.or_kleene, parts)

    def _bool(self, term: Term) -> Operand:
        return _as_bool(self._term(term))

    def _joined(self, join: Any, parts: tuple[Term, ...]) -> Operand:
        found = self._bool(parts[0])
        for part in parts[1:]:
            found = join(found, self._bool(part))
        return found

    def _column(self, name: str) -> Operand:
        if name not in self._cast:
            dtype, column = self._columns[name], self._table.column(name)
            column = column if column.type == dtype.arrow else column.cast(dtype.arrow)
            form = _FORMS.get(dtype.name)
            self._cast[name] = column if form is None else column.cast(form)
        return self._cast[name]

    def _pair(self, left: Term, right: Term) -> tuple[Operand, Operand]:
        """Two values that are compared: a text beside a time is one too."""
        return self._beside(left, right), self._beside(right, left)

    def _beside(self, term: Term, other: Term) -> Operand:
        if isinstance(term, Literal) and isinstance(term.value, str) and not term.kind:
            kind = kind_of(other, self._columns)
            return _literal(term, kind if kind in ("timestamp", "date") else "")
        return self._term(term)

    def _one_of(self, value: Term, literals: tuple[Literal, ...]) -> Operand:
        pairs = [self._pair(value, literal) for literal in literals]
        one, others = pairs[0][0], [other for _, other in pairs]
        exact = not pa.types.is_floating(one.type) and all(other.type == one.type for other in others)
        if len(pairs) > _FEW and exact and not isinstance(one, pa.Scalar):
            found = pc.is_in(one, value_set=pa.array([other.as_py() for other in others], one.type))
            return pc.if_else(pc.is_valid(one), found, pa.scalar(None, pa.bool_()))
        answer = _compared("=", one, others[0])
        for other in others[1:]:
            answer = pc.or_kleene(answer, _compared("=", one, other))
        return answer


@lru_cache(maxsize=1024)
def _literal_time(literal: Literal, kind: str) -> pa.Scalar:
    return pa.scalar(as_time(literal, kind), _INT64 if kind == "timestamp" else pa.int32())


def _literal(literal: Literal, kind: str) -> pa.Scalar:
    if kind:
        return _literal_time(literal, kind)
    value = literal.value
    if isinstance(value, bool):
        return pa.scalar(int(value), pa.int8())
    if isinstance(value, str):
        return pa.scalar(value, pa.string())
    return pa.scalar(value, _INT64 if isinstance(value, int) else _FLOAT64)


def _as_bool(given: Operand) -> Operand:
    return pc.equal(given, 1) if pa.types.is_int8(given.type) else given


def _one_type(left: Operand, right: Operand) -> tuple[Operand, Operand]:
    """Two numbers, both whole or both floats."""
    if left.type == right.type:
        return left, right
    return pc.cast(left, _FLOAT64, safe=False), pc.cast(right, _FLOAT64, safe=False)


_EXACT = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def _calculated(sign: str, left: Operand, right: Operand) -> Operand:
    left, right = _one_type(left, right)
    whole = pa.types.is_integer(left.type)
    calculate = {
        "+": pc.add_checked if whole else pc.add,
        "-": pc.subtract_checked if whole else pc.subtract,
        "*": pc.multiply_checked if whole else pc.multiply,
    }[sign]
    try:
        return calculate(left, right)
    except pa.ArrowInvalid:
        return _within(_EXACT[sign], left, right)


def _within(exact: Any, left: Operand, right: Operand) -> Operand:
    """The same one by one: what is beyond 64 bits is NULL."""
    sides = [(side.as_py(), 1) if isinstance(side, pa.Scalar) else (side.to_pylist(), 0) for side in (left, right)]
    if all(single for _, single in sides):
        return pa.scalar(None, _INT64)
    count = next(len(values) for values, single in sides if not single)
    one, other = ([values] * count if single else values for values, single in sides)
    found = [None if a is None or b is None else exact(a, b) for a, b in zip(one, other, strict=True)]
    return pa.array([value if value is not None and -(2**63) <= value < 2**63 else None for value in found], _INT64)


def _compared(sign: str, left: Operand, right: Operand) -> Operand:
    if _number(left) and _number(right):
        left, right = _one_type(left, right)
    elif left.type != right.type:
        # a bool that was compared is one already, one of a column or literal is a number
        left, right = _as_bool(left), _as_bool(right)
    match sign:
        case "<>":
            return pc.invert(_equal(left, right))
        case "<":
            return _less(left, right)
        case ">":
            return _less(right, left)
        case "<=":
            return pc.invert(_less(right, left))
        case ">=":
            return pc.invert(_less(left, right))
    return _equal(left, right)


def _number(given: Operand) -> bool:
    return bool(given.type in (_INT64, _FLOAT64))


def _equal(left: Operand, right: Operand) -> Operand:
    same = pc.equal(left, right)
    if not pa.types.is_floating(left.type):
        return same
    return pc.or_kleene(same, pc.and_kleene(pc.is_nan(left), pc.is_nan(right)))


def _less(left: Operand, right: Operand) -> Operand:
    less = pc.less(left, right)
    if not pa.types.is_floating(left.type):
        return less
    return pc.or_kleene(less, pc.and_kleene(pc.invert(pc.is_nan(left)), pc.is_nan(right)))
