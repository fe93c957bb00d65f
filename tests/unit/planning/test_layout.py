"""Row layouts: the same for any order of the same features, no two values in one place."""

from __future__ import annotations

from random import Random

import hypothesis.strategies as st
from hypothesis import given, settings

from headwater.definitions.feature import Feature
from headwater.definitions.sources import PushSource
from headwater.definitions.view import FeatureView
from headwater.planning.layout import RowLayout
from headwater.types import (
    Array,
    Bool,
    Bytes,
    Date,
    DType,
    Embedding,
    Float32,
    Float64,
    Int32,
    Int64,
    String,
    Timestamp,
)

DTYPES = [Int32, Int64, Float32, Float64, Bool, String, Bytes, Timestamp, Date, Array(Int64), Embedding(3)]
FEATURES = st.dictionaries(st.text("abcdefg", min_size=1, max_size=3), st.sampled_from(DTYPES), min_size=1, max_size=20)


def layout(features: dict[str, DType]) -> RowLayout:
    made = [Feature(name, dtype) for name, dtype in features.items()]
    return RowLayout.of(FeatureView("v", entity=(), source=PushSource(), features=made))


@settings(deadline=None)
@given(FEATURES, st.randoms())
def test_layouts(features: dict[str, DType], random: Random) -> None:
    found = layout(features)
    names = list(features)
    random.shuffle(names)
    assert layout({name: features[name] for name in names}) == found
    assert [slot.name for slot in found.slots] == sorted(features)
    assert [slot.bit for slot in found.slots] == list(range(len(features)))
    places: set[int] = set()
    for slot in found.slots:
        if slot.offset is None:
            assert slot.dtype.width is None
            continue
        assert slot.dtype.width is not None
        taken = set(range(slot.offset, slot.offset + slot.dtype.width))
        assert not taken & places
        places |= taken
    assert places == set(range(found.fixed_size))
    variable = [slot.variable for slot in found.slots if slot.variable is not None]
    assert variable == list(range(found.variable_count))
    assert found.bitmap_size == -(-len(features) // 8)
    assert found.by_name["a" if "a" in features else names[0]].name in features


def test_the_fingerprint_names_names_and_dtypes() -> None:
    one = layout({"a": Int64, "b": String}).fingerprint
    assert one == layout({"b": String, "a": Int64}).fingerprint
    assert one != layout({"a": Int64, "c": String}).fingerprint
    assert one != layout({"a": Float64, "b": String}).fingerprint
    assert 0 <= one < 2**32
