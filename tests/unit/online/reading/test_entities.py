from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from headwater.errors import EntityKeyError
from headwater.online.reading.entities import entity_batch, key_values
from headwater.types import Bool, Bytes, Date, DType, Int32, Int64, String, Timestamp

ONE = {"user": String}
TWO = {"user": Int64, "item": String}


@pytest.mark.parametrize(
    "entities",
    [
        [{"user": 1, "item": "a"}, {"item": "b", "user": 2}],
        {"user": [1, 2], "item": ["a", "b"]},
        {"user": np.array([1, 2], "int16"), "item": pa.array(["a", "b"])},
        {"user": pd.Series([1, 2]), "item": pl.Series(["a", "b"])},
        {"user": (1, 2), "item": pd.Series(["a", "b"], dtype="category")},
        pa.table({"user": pa.array([1, 2], pa.int32()), "item": ["a", "b"], "more": [0, 0]}),
        pd.DataFrame({"user": [1.0, 2.0], "item": ["a", "b"]}),
        pl.DataFrame({"item": ["a", "b"], "user": [1, 2]}),
    ],
)
def test_every_form_gives_the_same_columns(entities: Any) -> None:
    batch = entity_batch(entities, TWO)
    assert (batch.size, batch.columns) == (2, {"user": [1, 2], "item": ["a", "b"]})


@pytest.mark.parametrize(
    "values",
    [
        ["a", None],
        ("a", None),
        np.array(["a", None], object),
        pa.array(["a", None]),
        pd.Series(["a", None]),
        pl.Series(["a", None]),
    ],
)
def test_a_single_join_key_takes_a_plain_list(values: Any) -> None:
    batch = entity_batch(values, ONE)
    assert (batch.size, batch.columns) == (2, {"user": ["a", None]})


def test_a_scalar_is_repeated_over_the_rows() -> None:
    batch = entity_batch({"user": 7, "item": ["a", "b", "c"]}, TWO)
    assert (batch.size, batch.repeated) == (3, {"user"})
    assert batch.values("user") == [7, 7, 7]
    alone = entity_batch({"user": 7, "item": "a"}, TWO)
    assert (alone.size, alone.columns) == (1, {"user": [7], "item": ["a"]})
    assert entity_batch({"user": 7, "item": []}, TWO).size == 0


def test_no_join_keys_need_no_entities() -> None:
    assert entity_batch(None, {}).size == 1
    assert entity_batch({}, {}).size == 1
    assert entity_batch([{}, {}], {}).size == 2
    assert entity_batch([], TWO).size == 0
    assert entity_batch([], ONE).size == 0


@pytest.mark.parametrize(
    ("entities", "keys", "told"),
    [
        ([{"user": 1, "item": "a"}, {"user": 1}], TWO, "row 1: no 'item'"),
        (
            [{"user": 1, "item": "a"}, {"user": 1, "itme": "a"}],
            TWO,
            "row 1: 'itme' is not a join key of this request; did you mean 'item'?",
        ),
        ([{"user": 1, "item": "a", "x": 0}], TWO, "row 0: 'x' is not a join key"),
        ([{"user": 1, "item": "a"}, 3], TWO, "row 1: 3 is not a dict"),
        ({"user": [1], "itme": ["a"]}, TWO, "'itme' is not a join key of this request; did you mean 'item'?"),
        ({"user": [1]}, TWO, "no 'item'; the join keys are user (int64), item (string)"),
        ({"user": [1, 2], "item": ["a"]}, TWO, "user has 2, item has 1"),
        (pa.table({"user": [1], "items": ["a"]}), TWO, "no column 'item'; did you mean 'items'?"),
        ([1, 2], TWO, "a plain list fits a single join key"),
        ("JFK", ONE, "give a list: ['JFK']"),
        (7, ONE, "give a list: [7]"),
        (["a", 7], ONE, "row 1: join key 'user' is 7 (int); the join key is string"),
        ({"user": [True], "item": ["a"]}, TWO, "row 0: join key 'user' is True (bool)"),
        ({"user": [1.5], "item": ["a"]}, TWO, "row 0: join key 'user' is 1.5, which does not fit int64: not a whole"),
        ({"user": [1e19], "item": ["a"]}, TWO, "a float of 2**53 or more, which does not identify an integer"),
        (np.array([float("nan")]), {"user": Int64}, "row 0: join key 'user' is nan"),
        (pd.Series([1e19, None]), {"user": Int64}, "1e+19 in row 0 does not fit int64"),
        ([pd.Timestamp("2024-05-01T00:00:00.000000001")], {"user": Timestamp}, "finer than a microsecond"),
        ([np.datetime64("2024-05-01T00:00:00.000000001")], {"user": Timestamp}, "finer than a microsecond"),
        ({"user": "1", "item": ["a"]}, TWO, "row 0: join key 'user' is '1' (str)"),
        (pa.table({"user": ["1"], "item": ["a"]}), TWO, "join key 'user' is string; the join key is int64"),
        (pd.DataFrame({"user": [1.5], "item": ["a"]}), TWO, "1.5 in row 0 does not fit int64: not a whole number"),
        (np.array([1.5]), {"user": Int64}, "row 0: join key 'user' is 1.5, which does not fit int64"),
        ({"x": 1}, {}, "no join keys are needed"),
    ],
)
def test_wrong_entities_name_row_key_and_what_is_due(entities: Any, keys: dict[str, DType], told: str) -> None:
    with pytest.raises(EntityKeyError) as raised:
        entity_batch(entities, keys)
    assert told in str(raised.value)


WHEN = datetime(2024, 5, 1, 12, 30, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (Int32, [np.int8(1), 2, None, np.uint64(3)], [1, 2, None, 3]),
        (String, [np.str_("a"), "b", None], ["a", "b", None]),
        (Bytes, [bytearray(b"a"), b"b", memoryview(b"c")], [b"a", b"b", b"c"]),
        (Bool, [np.bool_(True), False, None], [True, False, None]),
        (Date, [date(2024, 5, 1), np.datetime64("2024-05-01"), None], [date(2024, 5, 1), date(2024, 5, 1), None]),
        (
            Timestamp,
            [WHEN, WHEN.replace(tzinfo=None), WHEN.astimezone(timezone(timedelta(hours=5))), None],
            [WHEN, WHEN, WHEN, None],
        ),
        (Timestamp, [pd.Timestamp(WHEN), np.datetime64(WHEN.replace(tzinfo=None)), pd.NaT], [WHEN, WHEN, None]),
        (Int64, [1.0, np.float32(2), Decimal("3.0"), None], [1, 2, 3, None]),
        (Int64, pd.Series([1.0, None]), [1, None]),
        (Timestamp, np.array(["2024-05-01T12:30:00.000005"], "datetime64[ns]"), [WHEN]),
        (Timestamp, pa.array([WHEN]), [WHEN]),
    ],
)
def test_values_become_plain_ones_of_their_type(dtype: DType, values: Any, expected: list[Any]) -> None:
    assert key_values(values, dtype, "k") == expected


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (Date, WHEN),
        (Timestamp, WHEN.date()),
        (Timestamp, WHEN.isoformat()),
        (Bool, 1),
        (Bytes, "a"),
        (String, b"a"),
        (Int64, "1"),
    ],
)
def test_a_value_of_another_type_is_never_cast(dtype: DType, value: Any) -> None:
    with pytest.raises(EntityKeyError, match="never casts a key silently"):
        key_values([value], dtype, "k")


def test_polars_categories_are_text_keys() -> None:
    for dtype in (pl.Categorical, pl.Enum(["a", "b"])):
        assert key_values(pl.Series("k", ["b", None, "a"], dtype=dtype), String, "k") == ["b", None, "a"]
