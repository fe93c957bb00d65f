"""Definitions called with wrong arguments say what to write."""

from __future__ import annotations

import copy
import pickle

import msgspec
import pytest

import headwater as hw
from headwater.definitions.arguments import ExplainsArguments

THING = hw.Entity("thing", join_keys={"thing": hw.String})

pytestmark = pytest.mark.xfail(
    ExplainsArguments is type(msgspec.Struct), reason="this msgspec has no place for words of one's own", strict=False
)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: hw.PushSource("at"),
            "PushSource() takes no positional arguments, but 1 was given; name the others: PushSource(event_time='at')",
        ),
        (
            lambda: hw.ParquetSource("rows", "at", "seen"),
            "ParquetSource() takes 1 positional argument (path), but 3 were given; name the others: "
            "ParquetSource(path, event_time='at', created_time='seen')",
        ),
        (
            lambda: hw.FeatureView("v", THING),
            "FeatureView() takes 1 positional argument (name), but 2 were given; name the others: "
            "FeatureView(name, entity=…)",
        ),
        (
            lambda: hw.Entity("e", {}, "", {}, 5),
            "Entity() takes 4 positional arguments (name, join_keys, description, tags), but 5 were given",
        ),
        (lambda: hw.Feature("x"), "Feature() is missing the argument 'dtype': Feature(name, dtype, …)"),
        (
            lambda: hw.FeatureView(entity=THING),
            "FeatureView() is missing the argument 'name': FeatureView(name, entity=…, source=…, features=…, …)",
        ),
        (
            lambda: hw.CSVSource("rows.csv", event_tme="at"),
            "CSVSource() has no argument 'event_tme'; did you mean 'event_time'?; it has path, event_time, ",
        ),
        (lambda: hw.Aggregation("x", "sum", windw="1h"), "has no argument 'windw'; did you mean 'window'?"),
        (lambda: hw.Model(), "Model() is missing the argument 'name': Model(name, …)"),
    ],
)
def test_the_error_says_how_to_write_it(call, words):
    with pytest.raises(TypeError) as refused:
        call()
    assert words in str(refused.value)


def test_every_definition_explains_its_arguments():
    kinds = [kind for kind in (getattr(hw, name) for name in hw.__all__) if isinstance(kind, type)]
    definitions = [kind for kind in kinds if issubclass(kind, msgspec.Struct) and "definitions" in kind.__module__]
    assert {hw.PushSource, hw.FeatureService, hw.RequestField, hw.Model, hw.OnDemandFeatureView} <= set(definitions)
    for kind in definitions:
        with pytest.raises(TypeError, match=rf"^{kind.__name__}\(\) has no argument 'wrong'; it has "):
            kind(wrong=1)


def test_definitions_are_values_all_the_same():
    source = hw.PushSource(event_time="at")
    assert pickle.loads(pickle.dumps(source)) == copy.copy(source) == source
    assert hw.Feature("x", hw.Float64).place.startswith("test_arguments.py:")
