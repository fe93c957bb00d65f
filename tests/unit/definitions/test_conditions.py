"""Conditions of aggregations: which texts are one, in one way of writing, and what is wrong with others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.definitions.condition_checks import condition_problem
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
    canonical_condition,
    condition_columns,
    condition_text,
    parse_condition,
)
from headwater.types import Array, Bool, Date, Float32, Float64, Int32, Int64, String, Timestamp


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("a>0", "a > 0"),
        (" ( ( a ) ) ", "a"),
        ("a = 1 or b = 2 and not c", "a = 1 OR b = 2 AND NOT c"),
        ("a or b or (c or d)", "a OR b OR c OR d"),
        ("not not a", "a"),
        ("x between 1 and 2*y + 3", "x >= 1 AND x <= 2 * y + 3"),
        ("x not between 1 and 2", "NOT (x >= 1 AND x <= 2)"),
        ("k in ('a', 'it''s') and k is not null", "k IN ('a', 'it''s') AND k IS NOT NULL"),
        ("k NOT IN (1, -2, .5)", "k NOT IN (1, -2, 0.5)"),
        ("a != -9223372036854775808", "a <> -9223372036854775808"),
        ('"we ird" = TRUE', '"we ird" = TRUE'),
        ('"or" = "plain"', '"or" = plain'),
        ("a - b - c >= - d", "a - b - c >= 0 - d"),
        ("(a or b) and (c and d) and not (e or f)", "(a OR b) AND c AND d AND NOT (e OR f)"),
        ("a - (b - c) * 2 > (a + b) * -1", "a - (b - c) * 2 > (a + b) * -1"),
        ("(a > b) = (c is null) and (a*b)*c in (1)", "(a > b) = (c IS NULL) AND a * b * c IN (1)"),
        ("day >= date '2025-01-31'", "day >= DATE '2025-01-31'"),
        ("date = timestamp", "date = timestamp"),
    ],
)
def test_one_way_of_writing(text, canonical):
    if text.startswith("date ="):
        canonical = '"date" = "timestamp"'
    assert canonical_condition(text) == canonical
    assert canonical_condition(canonical) == canonical


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the condition ends too early at character 1"),
        ("a >", "the condition ends too early at character 4"),
        ("a >> 1", "unexpected '>' at character 4"),
        ("a == 1", "unexpected '==' at character 3 of 'a == 1'; values are compared by ="),
        ("a = NULL", "unexpected 'NULL' at character 5 of 'a = NULL'; compare with NULL by IS NULL"),
        ("abs(a) > 1", "unexpected 'abs' at character 1 of 'abs(a) > 1'; functions are not allowed"),
        ("t.a > 1", "name a column alone"),
        ("a IN (b)", "unexpected 'b' at character 7 of 'a IN (b)'; IN takes literals"),
        ("a IN ()", "unexpected ')' at character 7"),
        ("a BETWEEN 1 OR 2", "unexpected 'OR' at character 13"),
        ("a > 1; b", "unexpected ';' at character 6"),
        ("a LIKE 'x'", "unexpected 'LIKE' at character 3"),
        ("a / 2 > 1", "unexpected '/' at character 3"),
        ("a > 9223372036854775808", "the number is too large"),
        ("a > 1e999", "the number is too large"),
        ("a > " + "1" * 5_000, "the number is too large"),
        ("a" + " + 1" * 3_000 + " > 0", "a condition has at most 100 of +, - and *"),
        ("a" + " * 1 > 0 AND a" * 101, "a condition has at most 100 of +, - and *"),
        ("a > 'b", 'unexpected "\'" at character 5'),
        ("1 < a < 3", "unexpected '<' at character 7"),
        ("- 'a' = b", "only a number can be negative"),
        ("(" * 200 + "a" + ")" * 200, "at most 30 parentheses deep"),
    ],
)
def test_other_texts_are_refused_with_the_position(text, problem):
    with pytest.raises(ConditionError) as refused:
        parse_condition(text)
    assert problem in str(refused.value)
    assert condition_columns(text) == ()


def test_columns_in_the_order_of_their_first_use():
    assert condition_columns("b > 1 AND (a IN (1) OR b + c = 2 OR d IS NULL)") == ("b", "a", "c", "d")


COLUMNS = {
    "i": Int64,
    "j": Int32,
    "x": Float64,
    "y": Float32,
    "t": String,
    "b": Bool,
    "at": Timestamp,
    "day": Date,
    "tags": Array(String),
}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("i > 1 AND j < x AND y = 0.5", None),
        ("t = 'a' AND t IN ('b') AND b AND b = TRUE", None),
        ("at >= '2025-01-31' AND at < TIMESTAMP '2025-01-31 08:30:00+01:00' AND day = '2025-01-31'", None),
        ("day BETWEEN DATE '2025-01-01' AND '2025-01-31'", None),
        ("tags IS NULL", None),
        ("TRUE", None),
        ("i", "i is not a condition"),
        ("t AND b", "t is not a condition"),
        ("z > 1", "column 'z' does not exist; the source has i, j, x"),
        ("i = 'a'", "i is a number and 'a' a text, in i = 'a'"),
        ("b = 1", "b is a bool and 1 a number"),
        ("t + 1 > 2", "t is not a number"),
        ("at > 'soon'", "'soon' is not a timestamp, such as '2025-01-31 08:30:00'"),
        ("day = DATE '2025-02-30'", "'2025-02-30' is not a date"),
        ("at = day", "at is a timestamp and day a date"),
        ("tags = tags", "lists cannot be compared"),
        ("i IN (1, 'a')", "i is a number and 'a' a text"),
    ],
)
def test_what_can_be_compared(text, problem):
    found = condition_problem(text, COLUMNS)
    assert found is None if problem is None else problem in found, found


names = st.sampled_from(["a", "b", "or", "we ird", 'q"', "Ä", "x1"]).map(Column)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
literals = st.builds(Literal, numbers | st.text(max_size=5) | st.booleans())


def _terms(inner):
    signs = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
    parts = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Arithmetic, st.sampled_from("+-*"), inner, inner),
        st.builds(Comparison, signs, inner, inner),
        st.builds(OneOf, inner, st.lists(literals, min_size=1, max_size=3).map(tuple)),
        st.builds(IsNull, inner),
        inner.filter(lambda term: not isinstance(term, Not)).map(Not),
        parts.filter(lambda found: not any(isinstance(each, Every) for each in found)).map(Every),
        parts.filter(lambda found: not any(isinstance(each, Some) for each in found)).map(Some),
    )


@given(st.recursive(names | literals, _terms, max_leaves=12))
def test_a_tree_is_read_back_from_its_text(tree):
    assert condition_text(parse_condition(condition_text(tree))) == condition_text(tree)
    assert repr(parse_condition(condition_text(tree))) == repr(tree)


@given(st.text(max_size=30))
def test_any_text_is_a_condition_or_refused(text):
    try:
        canonical = canonical_condition(text)
    except ConditionError:
        return
    assert canonical_condition(canonical) == canonical
