"""Instants and durations as users write them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pandas as pd
import pytest

from headwater.clock import from_micros, to_micros
from headwater.errors import UsageError

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "when", [NOON, NOON.replace(tzinfo=None), "2024-05-01T12:00", "2024-05-01T14:00+02:00", pd.Timestamp(NOON)]
)
def test_an_instant_in_any_form(when: Any) -> None:
    assert from_micros(to_micros(when)) == NOON


def test_a_date_is_its_midnight() -> None:
    assert from_micros(to_micros(date(2024, 5, 1))) == NOON.replace(hour=0) == from_micros(to_micros("2024-05-01"))


@pytest.mark.parametrize("when", [5, 5.0, True, "5", "noon", None, object(), [NOON]])
def test_what_is_no_instant_is_refused(when: Any) -> None:
    with pytest.raises(UsageError, match="is not a time"):
        to_micros(when)


def test_a_bare_number_is_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match=r"1714564800 is not a time \(a bare number has no unit\)"):
        to_micros(1714564800)  # type: ignore[arg-type]
