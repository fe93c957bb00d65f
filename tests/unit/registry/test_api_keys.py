"""API keys: made once, kept as digests, found by their id, revoked for good."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import headwater as hw
from headwater.database.transactions import writing
from headwater.registry.api_keys import APIKeys, digest_of, is_key, key_id
from headwater.registry.registry import open_registry
from headwater.registry.tables import api_keys

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[APIKeys]:
    url = "sqlite:///registry.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    registry = open_registry(url, tmp_path, "p")
    yield APIKeys(registry.engine, lambda: NOON)
    registry.close()


def test_a_key_is_shown_once_and_kept_as_a_digest(keys: APIKeys) -> None:
    key, made = keys.create("web", ["read"], views=["weather*"], services=["m_*"], expires_at=NOON + timedelta(days=9))
    assert keys.all() == [made] and made.digest == digest_of(key) and key.startswith(f"hw_{made.id}_")
    assert (made.name, made.scopes, made.views, made.services) == ("web", {"read"}, ("weather*",), ("m_*",))
    # the secret may have underscores itself
    assert key.removeprefix(f"hw_{made.id}_") not in repr(made) and len(key) >= 58
    assert key_id(key) == made.id and is_key(key, made)
    other, _ = keys.create("other", ["read"])
    assert not is_key(other, made) and not is_key(key, None) and not is_key(key[:-1] + "x", made)


@pytest.mark.parametrize("text", ["", "hw_", "hw_abc_def", "Bearer", "hw_" + "0" * 12 + "_" + "ä" * 43, "x" * 100_000])
def test_what_is_not_a_key_has_no_id(text: str) -> None:
    assert key_id(text) is None


def test_scopes_patterns_and_ends(keys: APIKeys) -> None:
    _, reads = keys.create("reads", ["read"], views=["weather*", "x"])
    assert reads.has("read") and not reads.has("write") and not reads.has("admin")
    assert reads.names_view("weather_daily") and reads.names_view("x") and not reads.names_view("Weather")
    assert not reads.names_service("weather")
    _, all_of_it = keys.create("admin", ["admin"])
    assert all(all_of_it.has(scope) for scope in ("read", "write", "admin"))
    assert all_of_it.names_view("any") and all_of_it.names_service("any")
    _, short = keys.create("short", ["read"], expires_at=NOON + timedelta(hours=1))
    assert short.holds(NOON) and not short.holds(NOON + timedelta(hours=1)) and all_of_it.holds(NOON)


def test_a_revoked_key_stays_listed_and_its_name_is_free(keys: APIKeys) -> None:
    _, first = keys.create("web", ["read"])
    with pytest.raises(hw.UsageError, match="there is a key 'web'"):
        keys.create("web", ["write"])
    with pytest.raises(hw.NotFound, match="did you mean 'web'"):
        keys.revoke("wbe")
    revoked = keys.revoke("web")
    assert revoked.id == first.id and revoked.revoked_at is not None and not revoked.holds(NOON)
    with pytest.raises(hw.NotFound):
        keys.revoke("web")
    _, second = keys.create("web", ["write"])
    assert keys.revoke(second.id).id == second.id
    assert {key.id for key in keys.all()} == {first.id, second.id}


@pytest.mark.parametrize(
    ("name", "scopes", "patterns"),
    [
        ("", ["read"], []),
        ("a b", ["read"], []),
        ("x" * 65, ["read"], []),
        ("a", [], []),
        ("a", ["raed"], []),
        ("a", ["read"], [""]),
    ],
)
def test_bad_names_scopes_and_patterns_are_refused(
    keys: APIKeys, name: str, scopes: list[str], patterns: list[str]
) -> None:
    with pytest.raises(hw.UsageError):
        keys.create(name, scopes, views=patterns)
    assert keys.all() == []


def test_of_several_that_make_a_key_of_one_name_at_once_one_does(keys: APIKeys) -> None:
    def create(_: int) -> bool:
        try:
            keys.create("web", ["read"])
        except hw.UsageError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        for _ in range(5):
            assert sum(pool.map(create, range(6))) == 1
            keys.revoke("web")
            assert not any(key.holds(NOON) for key in keys.all())


def test_a_name_that_two_keys_have_revokes_both(keys: APIKeys) -> None:
    keys.create("web", ["read"])
    _, other = keys.create("other", ["read"])
    with writing(keys._engine) as connection:
        connection.execute(api_keys.update().where(api_keys.c.id == other.id).values(name="web"))
    keys.revoke("web")
    assert not any(key.holds(NOON) for key in keys.all())
