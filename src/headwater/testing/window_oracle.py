"""The contract of window aggregations as a brute-force reference in plain Python: slow, and obviously right.

Whole numbers and fractions are exact; floats are compared within the stated bounds by `agrees`. Times are microseconds
since 1970 (UTC); source and log rows are those of `headwater.testing.oracle`, in nanoseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

from headwater.planning.windows.digest import digest
from headwater.planning.windows.values import stored_form
from headwater.testing.oracle import Delete, Fact, Key, LogRow, OracleView, SourceRow, facts, value_order
from headwater.types import DType, Status

DOUBLE_MAX = Fraction(2) ** 1024 * (1 - Fraction(1, 2**54))
"""Where a double becomes infinite."""


@dataclass(frozen=True)
class WindowRequest:
    """An aggregation, as the answer depends on it.

    Attributes:
        function: its name.
        column: None: rows.
        dtype: of the column; None: rows.
        width, hop, offset: microseconds; `width` None: lifetime.
        where: whether an event counts, by its columns; None there is not true.
        n, q, max_distinct: its options.
        default: what stands for a NULL that is not an overflow.
    """

    function: str
    column: str | None
    dtype: DType | None
    width: int | None
    hop: int = 0
    offset: int = 0
    where: Callable[[Mapping[str, Any]], bool | None] | None = None
    n: int = 0
    q: float = 0.0
    max_distinct: int = 1_000
    default: Any = None


class Statement(Fact):
    """A row of the source or the log that says that an event happened; microseconds."""

    @property
    def rank(self) -> tuple[Any, ...]:
        """Of the statements of one event the least counts."""
        content = () if self.from_log else tuple(value_order(self.values[name]) for name in sorted(self.values))
        return (self.known_at, self.from_log, self.position, content)


@dataclass(frozen=True)
class WindowAnswer:
    """What a version says to one key at one instant.

    Attributes:
        status: PRESENT or NULL; NOT_FOUND for a NULL key.
        value: in its stored form; of floats that are computed the nearest double of the exact value.
        event_time: of the newest event that counts for the key, in any window; None: there is none.
        overflow: whether a sum of integers is beyond 64 bits; the value is NULL then.
        exact: the exact value, where a bound holds.
        bound: how far a value may be from the exact one; None: not compared.
    """

    status: Status
    value: Any
    event_time: int | None
    overflow: bool = False
    exact: Fraction | None = None
    bound: Fraction | None = None


def statements(
    view: OracleView, source: Iterable[SourceRow], log: Iterable[LogRow] = (), event_id: str | None = None
) -> list[Statement]:
    """The rows that can be events at all: no NULL key, event time or created time, of the log those with every column.

    Args:
        view: its `defaults` name the columns.
        source: rows of the source, which carry their event ids.
        log: rows of the log.
        event_id: the column that has a log row's event id.
    """
    made = [Statement(f.key, f.values, f.event, f.created, False, event_id=f.event_id) for f in facts(view, source)]
    for row in log:
        own = row.values.get(event_id) if event_id is not None else None
        made += [Statement(f.key, f.values, f.event, f.created, True, f.position, own) for f in facts(view, (), [row])]
    return made


def events_at(
    rows: Iterable[Statement], deletes: Sequence[Delete], key: Key, at: int, *, as_known: bool = True
) -> list[Statement]:
    """The events of a key at an instant: what is known, then what no delete hides, then one statement an event."""
    position = max((d.position for d in deletes if d.key == key and d.through <= at), default=0)
    through = max((d.through for d in deletes if d.key == key and d.through <= at), default=None)
    counted: dict[Any, Statement] = {}
    for number, row in enumerate(rows):
        known = row.known_at <= at if as_known else row.event <= at
        hidden = through is not None and (row.known_at <= through or (row.from_log and row.position < position))
        if row.key != key or None in key or not known or hidden:
            continue
        name = ("one", number) if row.event_id is None else (row.event_id, row.event)
        if name not in counted or row.rank < counted[name].rank:
            counted[name] = row
    return list(counted.values())


def in_window(request: WindowRequest, event: int, at: int) -> bool:
    """Whether a window holds an event that is known, by its event time."""
    if request.width is None:
        return True
    first = _floor(at - request.offset - request.width, request.hop)
    return first <= event and (not request.offset or event < _floor(at - request.offset, request.hop))


def _floor(time: int, hop: int) -> int:
    return math.floor(Fraction(time, hop)) * hop


def window_answer(
    request: WindowRequest,
    rows: Iterable[Statement],
    deletes: Sequence[Delete],
    key: Key,
    at: int,
    *,
    as_known: bool = True,
) -> WindowAnswer:
    """What an aggregation gives for a key at an instant (microseconds)."""
    if None in key:
        return WindowAnswer(Status.NOT_FOUND, request.default, None)
    events = events_at(rows, deletes, key, at, as_known=as_known)
    newest = max((row.event for row in events), default=None)
    chosen = [row for row in events if request.where is None or request.where(row.values) is True]
    if request.column is not None:
        chosen = [row for row in chosen if row.values[request.column] is not None]
    return aggregate(request, [row for row in chosen if in_window(request, row.event, at)], at, newest)


def aggregate(request: WindowRequest, chosen: Sequence[Statement], at: int, newest: int | None = None) -> WindowAnswer:
    """The value of the events that are in the window, with their `where` and NULLs applied."""
    made = _value(request, chosen, at)
    if isinstance(made, _Overflow):
        return WindowAnswer(Status.NULL, None, newest, overflow=True)
    if isinstance(made, _Computed):
        return WindowAnswer(Status.PRESENT, made.value, newest, exact=made.exact, bound=made.bound)
    if made is None:
        return WindowAnswer(Status.NULL, request.default, newest)
    return WindowAnswer(Status.PRESENT, made, newest)


def agrees(answer: WindowAnswer, value: Any, *, times: int = 1) -> bool:
    """Whether a value is the answer's: to the last bit, or within `times` the stated bound where it is computed."""
    if isinstance(answer.value, float) and isinstance(value, float):
        if answer.exact is None:
            return value_order(answer.value) == value_order(value)
        if answer.bound is None:
            return True
        return math.isfinite(value) and abs(Fraction(value) - answer.exact) <= answer.bound * times
    return bool(value_order(answer.value) == value_order(value)) and type(answer.value) is type(value)


@dataclass(frozen=True)
class _Computed:
    """A float that is computed: the exact value, and how far from it another may be; None: not compared."""

    value: float
    exact: Fraction | None
    bound: Fraction | None


class _Overflow:
    """A sum of integers beyond 64 bits."""


def _value(request: WindowRequest, chosen: Sequence[Statement], at: int) -> Any:
    ordered = sorted(chosen, key=lambda row: _order(request, row))
    values = [_stored(request, row) for row in ordered]
    match request.function:
        case "count":
            return len(values)
        case "rate":
            assert request.width is not None
            return float(Fraction(len(values) * 1_000_000, request.width))
        case "count_distinct":
            return _distinct(values, request.max_distinct)
        case "last_n":
            return tuple(values[::-1][: request.n])
        case "first_n":
            return tuple(values[: request.n])
        case "last_n_distinct":
            return _last_distinct(values, request.n)
    if not values:
        return None
    match request.function:
        case "sum" | "mean":
            return _sum(request.function, values)
        case "min":
            return min(values, key=value_order)
        case "max":
            return max(values, key=value_order)
        case "first":
            return values[0]
        case "last":
            return values[-1]
        case "quantile":
            return _quantile(values, request.q)
        case "seconds_since_last":
            return float(Fraction(at - ordered[-1].event, 1_000_000))
    return _variance(request.function, [float(value) for value in values])


def _stored(request: WindowRequest, row: Statement) -> Any:
    if request.column is None:
        return None
    assert request.dtype is not None
    return stored_form(request.dtype, row.values[request.column])


def _order(request: WindowRequest, row: Statement) -> tuple[Any, ...]:
    return (row.event, row.created, row.from_log, row.position, value_order(_stored(request, row)))


def _last_distinct(values: Sequence[Any], n: int) -> tuple[Any, ...]:
    kept: list[Any] = []
    for value in reversed(values):
        if value_order(value) not in [value_order(other) for other in kept]:
            kept.append(value)
    return tuple(kept[:n])


def _distinct(values: Sequence[Any], most: int) -> int:
    """Exact up to `most`; beyond, by the digests that begin with ℓ zero bits, ℓ at most 20."""
    numbers = {digest(value) for value in values}
    for level in range(21):
        there = sum(number < 2 ** (64 - level) for number in numbers)
        if there <= most or level == 20:
            return int(2**level * there)
    raise AssertionError


def _quantile(values: Sequence[Any], q: float) -> float:
    middles = sorted((_middle(float(value)) for value in values), key=value_order)
    return middles[max(1, math.ceil(q * len(middles))) - 1]


def _middle(number: float) -> float:
    """The midpoint of a double's bin: sign, exponent and 6 bits of mantissa."""
    if number == 0 or not math.isfinite(number):
        return number + 0.0
    size, power = abs(Fraction(number)), Fraction(2) ** (math.frexp(number)[1] - 1)
    step = math.floor((size / power - 1) * 64)
    return math.copysign(float(power * (1 + Fraction(2 * step + 1, 128))), number)


def _sum(function: str, values: Sequence[Any]) -> Any:
    if any(math.isnan(value) for value in values):
        return math.nan
    finite, infinite = [v for v in values if math.isfinite(v)], {v for v in values if math.isinf(v)}
    exact, absolute = sum(map(Fraction, finite)), sum(abs(Fraction(value)) for value in finite)
    if absolute >= DOUBLE_MAX and isinstance(values[0], float):
        return _Computed(math.nan, Fraction(exact), None)
    if infinite:
        return infinite.pop() if len(infinite) == 1 else math.nan
    whole = isinstance(values[0], int)
    if whole and function == "sum":
        return int(exact) if -(2**63) <= exact < 2**63 else _Overflow()
    bound: Fraction | None = len(values) * Fraction(absolute) / 2**53
    if function == "mean":
        # a mean below the least normal double is rounded to a multiple of the least double
        exact, bound = Fraction(exact, len(values)), Fraction(absolute) / 2**53 + Fraction(1, 2**1075)
    return _Computed(float(exact), Fraction(exact), bound)


def _variance(function: str, values: Sequence[float]) -> Any:
    count = len(values) - function.endswith("samp")
    if count == 0:
        return None
    if not all(math.isfinite(value) for value in values):
        return math.nan
    mean = Fraction(sum(map(Fraction, values))) / len(values)
    squares = [(Fraction(value) - mean) ** 2 for value in values]
    exact = Fraction(sum(squares)) / count
    if exact == 0:
        return 0.0
    if max(squares) >= DOUBLE_MAX or exact < Fraction(1, 10**290):
        return _Computed(math.nan, Fraction(exact), None)
    spread = Fraction(sum(squares)) / len(values)
    relative = len(values) * _root(1 + mean**2 / spread) / 2**52
    result = _root(exact) if function.startswith("stddev") else Fraction(exact)
    return _Computed(float(result), result, result * relative)


def _root(number: Fraction) -> Fraction:
    """A square root to 60 digits."""
    with localcontext() as context:
        context.prec = 60
        context.Emax, context.Emin = 10**6, -(10**6)
        return Fraction((Decimal(number.numerator) / Decimal(number.denominator)).sqrt())
