"""What is wrong with an aggregation, or with the aggregations of one view, in words for the one who wrote them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from headwater.definitions.aggregate_functions import (
    DISTINCT_RANGE,
    FUNCTIONS,
    LONGEST_LIST,
    MAX_DISTINCT,
    dtype_problem,
    result_dtype,
)
from headwater.definitions.aggregation import ERRORS, Aggregation
from headwater.definitions.condition_checks import condition_problem
from headwater.definitions.conditions import ConditionError, parse_condition
from headwater.definitions.names import is_text, name_problem, repeated
from headwater.definitions.window_hops import hop_problem
from headwater.definitions.window_names import value_suffix
from headwater.errors import nearest
from headwater.types import DType


def aggregation_problems(given: Aggregation) -> list[str]:
    """Everything wrong with one aggregation that shows without its source."""
    problems = list(given.problems)
    function = FUNCTIONS.get(given.function) if isinstance(given.function, str) else None
    if function is None:
        known = ", ".join(FUNCTIONS)
        return [
            *problems,
            f"{given.function!r} is not a function; they are {known}{nearest(str(given.function), FUNCTIONS)}",
        ]
    if given.column is None and function.rows == "never":
        problems.append(f"{function.name} needs a column")
    elif given.column is not None and function.rows == "must":
        problems.append(f"{function.name} is a function of rows: its column must be None, not {given.column!r}")
    elif given.column is not None and not is_text(given.column):
        problems.append(f"column must be the name of a column or None, not {given.column!r}")
    problems += [*_time_problems(given), *_option_problems(given), *_over_problems(given)]
    if given.errors not in ERRORS:
        problems.append(f"errors={given.errors!r} is not one of {', '.join(ERRORS)}")
    elif given.errors == "null" and function.result != "total":
        problems.append(f"{function.name} cannot overflow: omit errors=")
    if given.where is not None and not is_text(given.where):
        problems.append('where must be a condition in text, such as "amount > 0"')
    elif given.where is not None:
        try:
            parse_condition(given.where)
        except ConditionError as bad:
            problems.append(f"where: {bad}")
    if given.where is not None and given.name is None:
        problems.append("an aggregation with where= needs name=")
    for made in given.expanded():
        problem = name_problem(made.feature_name, "a feature")
        if problem is not None:
            hint = "" if given.name is not None else "; give name="
            problems.append(problem + hint)
    return list(dict.fromkeys(problems))


def _time_problems(given: Aggregation) -> list[str]:
    function = FUNCTIONS[given.function]
    if any(problem.startswith(("window:", "hop:", "offset:")) for problem in given.problems):
        return []
    if given.width is None:
        named = [name for name in ("hop", "offset") if getattr(given, name) is not None]
        problems = [f"a lifetime aggregation (window=None) takes no {name}=" for name in named]
        if not function.lifetime:
            problems.append(f"{function.name} needs a window: it cannot be over a lifetime")
        return problems
    if given.width <= 0:
        return [f"window {_text(given.window)} must be longer than zero"]
    if given.offset is not None and given.offset_micros <= 0:
        return [f"offset {_text(given.offset)} must be longer than zero; omit it for a window that ends now"]
    problem = hop_problem(given.width, given.hop_micros, given.offset_micros)
    return [] if problem is None else [problem]


def _text(duration: Any) -> str:
    return str(duration) if isinstance(duration, timedelta) else repr(duration)


def _option_problems(given: Aggregation) -> list[str]:
    takes = FUNCTIONS[given.function].options
    problems = [
        f"{given.function} does not take {name}="
        for name in ("n", "q")
        if getattr(given, name) is not None and name not in takes
    ]
    if given.max_distinct != MAX_DISTINCT and "max_distinct" not in takes:
        problems.append(f"{given.function} does not take max_distinct=")
    if "n" in takes and not _whole(given.n, 1, LONGEST_LIST):
        problems.append(f"{given.function} needs n=, a whole number from 1 to {LONGEST_LIST:,}, not {given.n!r}")
    if "q" in takes and not _share(given.q):
        problems.append(f"{given.function} needs q=, a number from 0 to 1, not {given.q!r}")
    if "max_distinct" in takes and not _whole(given.max_distinct, *DISTINCT_RANGE):
        least, most = DISTINCT_RANGE
        problems.append(f"max_distinct must be a whole number from {least} to {most:,}, not {given.max_distinct!r}")
    return problems


def _whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= 1


def _over_problems(given: Aggregation) -> list[str]:
    if (given.over is None) != (given.values is None):
        return ["over= and values= belong together: the column, and the values that have an aggregation each"]
    if given.over is None:
        return []
    if not is_text(given.over):
        return [f"over must be the name of a column, not {given.over!r}"]
    values = tuple(given.values or ())
    if not values:
        not_a_list = any(problem.startswith("values:") for problem in given.problems)
        return [] if not_a_list else ["values must not be empty"]
    problems = [
        f"values: {value!r} must be text, a whole number of 64 bits or a bool"
        for value in values
        if not isinstance(value, str) and not (isinstance(value, int) and -(2**63) <= value < 2**63)
    ]
    if not problems:
        pairs = repeated(value_suffix(value) for value in values)
        problems += [f"values: two of them make the same name, '…{first}' and '…{second}'" for first, second in pairs]
    return problems


def column_problems(given: Aggregation, columns: Mapping[str, DType]) -> list[str]:
    """What is wrong with a sound aggregation, by the dtypes of its source's columns."""
    if given.column is not None and given.column not in columns:
        shown = ", ".join(columns)
        return [f"column {given.column!r} does not exist; the source has {shown}{nearest(given.column, columns)}"]
    dtype = None if given.column is None else columns[given.column]
    problem = dtype_problem(given.function, dtype)
    if problem is not None:
        return [problem]
    result = result_dtype(given.function, dtype)
    if not result.accepts(given.default):
        return [f"default {given.default!r} is not a value of {result!r}"]
    if given.errors == "null" and result.name != "int64":
        return ["a sum of floats cannot overflow: omit errors="]
    problem = None if given.where is None else condition_problem(given.where, columns)
    return [] if problem is None else [problem]


def view_problems(aggregations: Iterable[Aggregation]) -> list[str]:
    """What is wrong with the aggregations of one view together."""
    names = [made.feature_name for given in aggregations for made in given.expanded()]
    return [
        f"two aggregations are named {first!r}; give one of them name="
        if first == second
        else f"two aggregations are named {first!r} and {second!r}, which differ only in case; give one of them name="
        for first, second in repeated(names)
    ]
