"""Signatures that differ from a base's are named, each with what is wrong."""

from importlib.metadata import entry_points
from typing import Any, Protocol

import pytest

from headwater.loader import OFFLINE_ENGINES, ONLINE_STORES
from headwater.offline.base import OfflineEngine
from headwater.online.base import OnlineStore
from headwater.testing.signatures import differing_signatures


class Base:
    def put(self, rows: list[int], *, until: int | None = None) -> int:
        return 0

    @classmethod
    def from_url(cls, url: str, folder: str) -> "Base":
        return cls()

    def _own(self) -> None:
        pass


class Power(Protocol):
    def wait(self, replicas: int, timeout: float) -> int: ...


class Missing(Base):
    def put(self, rows: list[int]) -> int:  # type: ignore[override]
        return 0


class More(Base):
    def put(self, rows: list[int], *, until: int | None = None, extra: bool = False) -> int:
        return 0

    def _own(self, more: int) -> None:  # type: ignore[override]
        pass


class Demanding(Base):
    def put(self, rows: list[int], *, until: int | None = None, extra: bool) -> int:  # type: ignore[override]
        return 0


class OtherDefault(Base):
    def put(self, rows: list[int], *, until: int | None = 3) -> int:
        return 0


class Turned(Base):
    @classmethod
    def from_url(cls, folder: str, url: str) -> "Turned":
        return cls()


class OtherName(Base):
    def put(self, values: list[int], *, until: int | None = None) -> int:
        return 0


class ByPosition(Base):
    def put(self, rows: list[int], until: int | None = None) -> int:
        return 0


class Waits(Base):
    def wait(self, replicas: int) -> int:
        return 0


@pytest.mark.parametrize("kind", [Base, More])
def test_a_class_that_can_be_called_as_its_base_differs_in_nothing(kind: type[Any]) -> None:
    assert differing_signatures(kind, Base, Power) == []


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (Missing, "takes no 'until'"),
        (Demanding, "'extra' has no default"),
        (OtherDefault, "'until' has another default"),
        (Turned, "another position"),
        (OtherName, "takes no 'rows'"),
        (ByPosition, "'until' is positional or keyword, not keyword-only"),
        (Waits, "takes no 'timeout', which Power.wait takes"),
    ],
)
def test_what_differs_is_named(kind: type[Any], says: str) -> None:
    assert any(says in line for line in differing_signatures(kind, Base, Power))


@pytest.mark.parametrize(("group", "base"), [(ONLINE_STORES, OnlineStore), (OFFLINE_ENGINES, OfflineEngine)])
def test_every_installed_store_and_engine_is_called_as_its_base(group: str, base: type[Any]) -> None:
    kinds = [point.load() for point in entry_points(group=group)]
    assert kinds and [differing_signatures(kind, base) for kind in kinds] == [[]] * len(kinds)
