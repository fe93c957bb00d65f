"""The public methods of both stores: full signatures, the same on both; docstrings with arguments and results."""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import headwater as hw

STORES = (hw.FeatureStore, hw.AsyncFeatureStore)
CLIENTS = (hw.Client, hw.AsyncClient)


def methods(store: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, member in vars(store).items():
        function = member.__func__ if isinstance(member, classmethod) else member
        if not name.startswith("_") and inspect.isfunction(function):
            yield name, function


EVERY = [
    pytest.param(store, name, function, id=f"{store.__name__}.{name}")
    for store in (*STORES, *CLIENTS)
    for name, function in methods(store)
]


@pytest.mark.parametrize(("store", "name", "function"), EVERY)
def test_every_argument_is_named_typed_and_described(store: type, name: str, function: Callable[..., Any]) -> None:
    signature = inspect.signature(function)
    given = [each for each in signature.parameters.values() if each.name not in ("self", "cls")]
    assert all(each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL) for each in given)
    assert all(each.annotation is not each.empty for each in given)
    assert signature.return_annotation is not signature.empty
    text = inspect.cleandoc(function.__doc__ or "")
    for each in given:
        assert re.search(rf"^    (\w+, )*{each.name}(, \w+)*: ", text, re.MULTILINE), each.name
    if signature.return_annotation not in ("None", "Self"):
        assert "\nReturns:\n" in text
    nothing = name in ("close", "of", "worker", "flush_refresh_requests") or (store in CLIENTS and name == "session")
    assert "\nRaises:\n" in text or nothing


@pytest.mark.parametrize("name", [name for name, _ in methods(hw.AsyncFeatureStore) if hasattr(hw.FeatureStore, name)])
def test_both_stores_take_the_same_arguments(name: str) -> None:
    one, other = (inspect.signature(getattr(store, name)).parameters for store in STORES)
    assert [(p.name, p.default, p.kind, p.annotation) for p in one.values()] == [
        (p.name, p.default, p.kind, p.annotation) for p in other.values()
    ]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_has_methods_of_a_store_alone_with_their_arguments(client: type) -> None:
    for name, function in methods(client):
        one, other = (inspect.signature(each).parameters for each in (function, getattr(hw.FeatureStore, name)))
        assert [(p.name, p.default, p.kind, p.annotation) for p in one.values()] == [
            (p.name, p.default, p.kind, p.annotation) for p in other.values()
        ], name


def test_both_stores_are_made_in_the_same_way() -> None:
    one, other = (inspect.signature(store.__init__).parameters for store in STORES)
    assert list(one.items())[1:] == list(other.items())[1:]


def test_a_store_has_few_methods() -> None:
    assert all(len([name for name in vars(store) if not name.startswith("_")]) <= 40 for store in STORES)


def test_a_training_set_takes_the_arguments_of_history() -> None:
    history, saved = hw.FeatureStore.get_historical_features, hw.FeatureStore.save_training_set
    one, other = (inspect.signature(each).parameters for each in (history, saved))
    more, apart = other.keys() - one.keys(), {"bucket"}  # a set is saved whole
    shared = [p for p in one.values() if p.name not in apart]
    assert more == {"name", "labels"} and [p for p in other.values() if p.name not in more] == shared

    def described(function: Callable[..., Any]) -> dict[str, str]:
        text = inspect.cleandoc(function.__doc__ or "").partition("Args:\n")[2].partition("\nReturns:")[0]
        parts = re.split(r"^    (\w+): ", text, flags=re.MULTILINE)
        return dict(zip(parts[1::2], parts[2::2], strict=True))

    assert {name: text.rstrip() for name, text in described(saved).items() if name not in more} == {
        name: text.rstrip() for name, text in described(history).items() if name not in apart | {"self"}
    }
