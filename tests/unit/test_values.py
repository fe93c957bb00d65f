"""Values: what frozen dataclasses are, and what the functions of `dataclasses` make of them."""

import copy
import dataclasses
import pickle
from typing import ClassVar

import msgspec
import pytest

import headwater as hw
from headwater.digests import blake2b
from headwater.values import PartlyCompared, Value


class Pair(Value, frozen=True):
    left: int
    right: tuple[int, ...] = ()


class Noted(PartlyCompared, frozen=True):
    said: str
    note: str = ""
    not_compared: ClassVar[tuple[str, ...]] = ("note",)


def test_a_value_is_what_a_frozen_dataclass_is():
    pair = Pair(1, right=(2,))
    assert pair == Pair(1, (2,)) != Pair(2, (2,)) and hash(pair) == hash(Pair(1, (2,)))
    assert repr(pair) == "Pair(left=1, right=(2,))"
    with pytest.raises(AttributeError):
        pair.left = 3  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(pair)) == copy.copy(pair) == copy.deepcopy(pair) == pair


def test_the_functions_of_dataclasses_take_values():
    pair = Pair(1)
    assert dataclasses.is_dataclass(pair) and dataclasses.is_dataclass(Pair)
    assert [field.name for field in dataclasses.fields(Pair)] == ["left", "right"]
    assert dataclasses.replace(pair, left=5) == Pair(5)
    assert dataclasses.asdict(pair) == {"left": 1, "right": ()} and dataclasses.astuple(pair) == (1, ())
    assert msgspec.json.decode(msgspec.json.encode(pair), type=Pair) == pair


def test_fields_that_do_not_count():
    assert Noted("a", "one") == Noted("a", "two") != Noted("b", "one")
    assert (Noted("a", "one") != Noted("a", "two")) is False
    assert len({Noted("a", "one"), Noted("a", "two")}) == 1 and repr(Noted("a", "x")) == "Noted(said='a')"
    assert dataclasses.replace(Noted("a", "x"), said="b").note == "x"


def test_definitions_are_equal_wherever_they_are_written_and_keep_their_problems():
    first = hw.Entity("user", join_keys={"user": hw.Int64})
    second = hw.Entity("user", join_keys={"user": hw.Int64})
    assert first == second and (first != second) is False and first.place != second.place and "place" not in repr(first)
    wrong = hw.Feature("x", hw.Float64, freshness_sla="soon")
    assert wrong.problems and copy.copy(wrong).problems == copy.deepcopy(wrong).problems == wrong.problems
    assert pickle.loads(pickle.dumps(wrong)).problems == wrong.problems
    assert dataclasses.replace(wrong, freshness_sla="1h").problems == ()
    assert copy.copy(first) == first and copy.copy(first).place == first.place


def test_sources_are_equal_by_what_they_say():
    first, second = hw.TableSource([{"user": 1}]), hw.TableSource([])
    assert first == second and (first != second) is False and first != hw.TableSource([], event_time="at")
    assert hw.ParquetSource("a", event_time="at") == hw.ParquetSource("a", event_time="at") != hw.ParquetSource("b")


def test_the_digest_is_that_of_hashlib():
    import hashlib

    assert blake2b(b"key", digest_size=8).digest() == hashlib.blake2b(b"key", digest_size=8).digest()
