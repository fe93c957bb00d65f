"""Whether the values in a condition can be compared, by the dtypes of the columns that it names."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import NoReturn

from headwater.clock import to_micros
from headwater.definitions.conditions import (
    Arithmetic,
    Column,
    Comparison,
    ConditionError,
    Every,
    IsNull,
    Literal,
    Not,
    OneOf,
    Some,
    Term,
    condition_text,
    parse_condition,
)
from headwater.errors import nearest
from headwater.types import DType

NUMBER, TEXT, BYTES, BOOL, TIMESTAMP, DATE, LIST = "number", "text", "bytes", "bool", "timestamp", "date", "list"
_KINDS = {
    **dict.fromkeys(("int32", "int64", "float32", "float64"), NUMBER),
    **{"string": TEXT, "bytes": BYTES, "bool": BOOL, "timestamp": TIMESTAMP, "date": DATE},
    **dict.fromkeys(("array", "embedding"), LIST),
}


def condition_problem(text: str, columns: Mapping[str, DType]) -> str | None:
    """Why a condition cannot be evaluated over columns of these dtypes; None where it can.

    Args:
        text: the condition.
        columns: the dtypes of the source's columns.
    """
    try:
        tree = parse_condition(text)
        if kind_of(tree, columns) != BOOL:
            _refuse(f"{condition_text(tree)} is not a condition: compare it with something")
    except ConditionError as bad:
        return f"where: {bad}"
    return None


def kind_of(term: Term, columns: Mapping[str, DType]) -> str:
    """What a term's values are: `number`, `text`, `bytes`, `bool`, `timestamp`, `date` or `list`.

    Raises:
        ConditionError: values within it cannot be compared, or a column that there is not.
    """
    match term:
        case Column(name):
            if name not in columns:
                _refuse(f"column {name!r} does not exist; the source has {', '.join(columns)}{nearest(name, columns)}")
            return _KINDS[columns[name].name]
        case Literal():
            return _literal_kind(term)
        case Arithmetic(sign, left, right):
            for side in (left, right):
                if kind_of(side, columns) != NUMBER:
                    _refuse(f"{condition_text(side)} is not a number, which {sign!r} takes in {condition_text(term)}")
            return NUMBER
        case Comparison(_, left, right):
            _check_pair(left, right, columns, condition_text(term))
        case OneOf(value, literals):
            for literal in literals:
                _check_pair(value, literal, columns, condition_text(term))
        case IsNull(value):
            kind_of(value, columns)
        case Not(value):
            _check_bool(value, columns)
        case Every(parts) | Some(parts):
            for part in parts:
                _check_bool(part, columns)
    return BOOL


def _check_bool(term: Term, columns: Mapping[str, DType]) -> None:
    if kind_of(term, columns) != BOOL:
        _refuse(f"{condition_text(term)} is not a condition: compare it with something")


def _literal_kind(literal: Literal) -> str:
    if literal.kind:
        as_time(literal, literal.kind)
        return literal.kind
    if isinstance(literal.value, bool):
        return BOOL
    return TEXT if isinstance(literal.value, str) else NUMBER


def _check_pair(left: Term, right: Term, columns: Mapping[str, DType], where: str) -> None:
    kinds = kind_of(left, columns), kind_of(right, columns)
    if LIST in kinds:
        _refuse(f"lists cannot be compared, in {where}; only IS NULL can ask for one")
    for literal, other in ((left, kinds[1]), (right, kinds[0])):
        if isinstance(literal, Literal) and isinstance(literal.value, str) and not literal.kind and other in _TIMES:
            as_time(literal, other)
            return
    if kinds[0] != kinds[1]:
        _refuse(f"{condition_text(left)} is a {kinds[0]} and {condition_text(right)} a {kinds[1]}, in {where}")


_TIMES = (TIMESTAMP, DATE)


def as_time(literal: Literal, kind: str) -> int:
    """A text literal as a time: microseconds since 1970 (UTC) of a timestamp, days since 1970 of a date.

    Args:
        literal: ISO 8601; without an offset in UTC.
        kind: `timestamp` or `date`.

    Raises:
        ConditionError: not such a time.
    """
    text = str(literal.value)
    try:
        if kind == DATE:
            return date.fromisoformat(text).toordinal() - date(1970, 1, 1).toordinal()
        found = datetime.fromisoformat(text) if len(text) > 10 else datetime.combine(date.fromisoformat(text), time())
        return to_micros(found if found.tzinfo is not None else found.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        example = "'2025-01-31'" if kind == DATE else "'2025-01-31 08:30:00'"
        _refuse(f"{text!r} is not a {kind}, such as {example}")


def _refuse(problem: str) -> NoReturn:
    raise ConditionError(problem)
