"""A watermark reaches another where both of its parts do."""

import pytest

from headwater.planning.watermark import Watermark


@pytest.mark.parametrize(
    ("one", "other", "reaches"),
    [
        (Watermark(5, 5), Watermark(5, 5), True),
        (Watermark(6, 5), Watermark(5, 5), True),
        (Watermark(5, 4), Watermark(4, 5), False),
        (Watermark(4, 5), Watermark(5, 4), False),
        (Watermark(), Watermark(), True),
        (Watermark(), Watermark(position=1), False),
    ],
)
def test_reaches(one: Watermark, other: Watermark, reaches: bool) -> None:
    assert one.reaches(other) is reaches
