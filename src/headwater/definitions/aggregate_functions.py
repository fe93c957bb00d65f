"""The functions of window aggregations: what each takes, the dtype it gives, and its value over no events."""

from __future__ import annotations

from typing import Any

from headwater.types import Array, DType, Float64, Int64
from headwater.values import Value

INTEGERS = frozenset({"int32", "int64"})
FLOATS = frozenset({"float32", "float64"})
NUMBERS = INTEGERS | FLOATS
SCALARS = NUMBERS | {"bool", "string", "bytes", "timestamp", "date"}
"""The dtypes that have an order, and a digest for `count_distinct`."""
LONGEST_LIST = 1_000
"""The greatest `n` of a list."""
DISTINCT_RANGE = 16, 100_000
"""The least and the greatest `max_distinct`."""
MAX_DISTINCT = 1_000


class AggregateFunction(Value, frozen=True):
    """What an aggregate function takes and gives.

    Attributes:
        name: as users write it.
        inputs: the names of the dtypes of the columns that it takes; None: any.
        rows: whether it takes no column, and so counts rows: `may`, `must` or `never`.
        result: the dtype of its values: one of its own, or `same`, `list` or `total` (Int64 of integers, else
            Float64).
        empty: its value over no events; None is NULL.
        options: which of `n`, `q` and `max_distinct` it takes.
        lifetime: whether it can be over all of time.
    """

    name: str
    inputs: frozenset[str] | None
    result: DType | str
    rows: str = "never"
    empty: Any = None
    options: tuple[str, ...] = ()
    lifetime: bool = True


def _all() -> list[AggregateFunction]:
    numbers = NUMBERS | {"bool"}
    made = [
        AggregateFunction("count", None, Int64, rows="may", empty=0),
        AggregateFunction("count_distinct", SCALARS, Int64, empty=0, options=("max_distinct",)),
        AggregateFunction("sum", numbers, "total"),
        AggregateFunction("mean", numbers, Float64),
        *(AggregateFunction(name, numbers, Float64) for name in ("var_pop", "stddev_pop", "var_samp", "stddev_samp")),
        *(AggregateFunction(name, SCALARS, "same") for name in ("min", "max", "first", "last")),
        *(
            AggregateFunction(name, None, "list", empty=(), options=("n",))
            for name in ("last_n", "last_n_distinct", "first_n")
        ),
        AggregateFunction("quantile", NUMBERS, Float64, options=("q",)),
        AggregateFunction("rate", None, Float64, rows="may", empty=0.0, lifetime=False),
        AggregateFunction("seconds_since_last", frozenset(), Float64, rows="must"),
    ]
    return made


FUNCTIONS = {function.name: function for function in _all()}
"""Every function by its name."""


def result_dtype(function: str, column: DType | None) -> DType:
    """The dtype of a function's values.

    Args:
        function: one of `FUNCTIONS`.
        column: the dtype of its column; None where it counts rows.

    Raises:
        ValueError: the function does not take the column.
    """
    problem = dtype_problem(function, column)
    if problem is not None:
        raise ValueError(problem)
    result = FUNCTIONS[function].result
    if isinstance(result, DType):
        return result
    assert column is not None
    if result == "list":
        return Array(column)
    if result == "total":
        return Float64 if column.name in FLOATS else Int64
    return column


def dtype_problem(function: str, column: DType | None) -> str | None:
    """Why a function cannot take a column of this dtype (None: rows); None where it can."""
    given = FUNCTIONS[function]
    if column is None:
        return f"{function} needs a column" if given.rows == "never" else None
    if given.rows == "must":
        return f"{function} is a function of rows: its column must be None"
    if given.inputs is not None and column.name not in given.inputs:
        names = ", ".join(name.capitalize() for name in sorted(given.inputs))
        return f"{function} cannot take a column of {column!r}; it takes {names}"
    return None


def is_integer(dtype: DType | None) -> bool:
    """Whether values are added up as integers, in 128 bits."""
    return dtype is not None and dtype.name in INTEGERS | {"bool"}
