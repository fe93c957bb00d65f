"""A password is never shown, whatever URL it stands in and whatever is wrong with that URL."""

from __future__ import annotations

import json
import re
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.config import load_settings
from headwater.errors import ConfigError, HeadwaterError
from headwater.online.stores.redis.url import parse_url
from headwater.testing import rounds
from headwater.urls import is_clear, scheme_of, shown_location, without_password

WORDS = st.text("qxzjkvQXZJKV", min_size=6, max_size=9)
SPECIAL = st.sampled_from(
    ["@", "/", "#", "?", "%", ":", "&", "=", "+", " ", ",", "[", "]", "'", "\\", "é", "\n", "//", "?a="]
)
PASSWORDS = (
    st.lists(st.one_of(WORDS, SPECIAL), min_size=1, max_size=4)
    .map("".join)
    .filter(lambda text: re.search("[qxzjkv]{6}", text, re.IGNORECASE) is not None)
)
ONLINE = [
    "redis://app:{}@127.0.0.1:1/0?timeout=50ms&connect_timeout=50ms",
    "redis://:{}@127.0.0.1:1?timeout=50ms",
    "rediss://app:{}@127.0.0.1:1/0",
    "redis://127.0.0.1:1/0?replicas=:{}@127.0.0.1:2",
    "redis://127.0.0.1:1/0?password={}",
    "redis+sentinel://127.0.0.1:1/primary/0?sentinel_password={}&timeout=50ms",
    "redis+sentinel://app:{}@127.0.0.1:1,127.0.0.1:2/primary",
    "redis+cluster://app:{}@127.0.0.1:1,127.0.0.1:2?timeout=50ms",
    "redi://app:{}@127.0.0.1:1/0",
    "redis:/app:{}@127.0.0.1:1/0",
    "redis//app:{}@127.0.0.1:1/0",
    "redis:///app:{}@127.0.0.1:1/0",
    "redis:app:{}@127.0.0.1:1/0",
    " redis://app:{}@127.0.0.1:1/0",
    "app:{}@127.0.0.1:1/0",
    "{}@127.0.0.1:1/0",
    "dynamodb://AKIA:{}@eu-west-1",
    "dynamodb://eu-west-1?endpoint=http://app:{}@127.0.0.1:1",
    "dynamodb://eu-west-1?endpoint=http://127.0.0.1:1&secret={}",
    "lmdb://app:{}@127.0.0.1:1",
    "memory://app:{}@h",
]
REGISTRY = [
    "postgresql+psycopg://app:{}@127.0.0.1:1/d",
    "postgresql://app:{}@127.0.0.1:1/d",
    "postgresql+psycopg:app:{}@127.0.0.1:1/d",
    "postgresql+psycopg:/app:{}@127.0.0.1:1/d",
    "postgresql+psycopg//app:{}@127.0.0.1:1/d",
    "postgres+psycopg://app:{}@127.0.0.1:1/d",
    "postgresql+psycopg://127.0.0.1:1/d?user=app&password={}",
    "postgresql+psycopg://127.0.0.1:1/d?user=app&sslpassword={}",
    "postgresql+psycopg://app:{}@127.0.0.1:1,127.0.0.1:2/d",
    "mysql://app:{}@127.0.0.1:1/d",
    "sqlite://app:{}@127.0.0.1/d",
    "app:{}@127.0.0.1:1/d",
]


LOCATIONS = [
    "s3://AKIA:{}@bucket/data",
    "https://app:{}@h/x?token={}",
    "sc://h:15002/;token={}",
    "sc://h:15002/;use_ssl=true;token={};user_id=me",
    "sc://me:{}@h:15002/;x-key={}",
]


def told_by(job: Callable[[], Any]) -> str:
    """All that an error says: of itself, of what it came from, as a traceback."""
    try:
        return repr(job())
    except HeadwaterError as error:
        told, seen = "", [error]
        while seen:
            bad: BaseException = seen.pop()
            told += f"{bad!r} {bad} " + "".join(traceback.format_exception_only(bad))
            seen += [e for e in (bad.__cause__, bad.__context__) if e is not None]  # type: ignore[misc]
        return told


def everything_said(**url: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        told = []
        try:
            store = hw.FeatureStore(Path(folder), **url)
        except HeadwaterError:
            return told_by(lambda: hw.FeatureStore(Path(folder), **url))
        with store:
            told += [repr(store), repr(store.settings), repr(store.context.online), repr(store.registry)]
            told += [told_by(lambda: store.status()), told_by(lambda: store.context.claims.claim_online())]
        return " ".join(told)


def check(shape: str, password: str, said: str) -> None:
    for part in re.findall("[qxzjkv]{6,}", password, re.IGNORECASE):
        assert part.lower() not in said.lower(), (shape, password, said)


@settings(max_examples=rounds(60), deadline=None)
@given(st.sampled_from(ONLINE), PASSWORDS)
def test_no_password_of_an_online_store_is_shown(shape: str, password: str) -> None:
    check(shape, password, everything_said(online=shape.replace("{}", password)))


@settings(max_examples=rounds(40), deadline=None)
@given(st.sampled_from(REGISTRY), PASSWORDS)
def test_no_password_of_a_registry_is_shown(shape: str, password: str) -> None:
    check(shape, password, everything_said(registry=shape.replace("{}", password)))


@settings(max_examples=rounds(300))
@given(st.sampled_from([*ONLINE, *REGISTRY, *LOCATIONS]), PASSWORDS)
def test_no_password_of_a_url_is_shown(shape: str, password: str) -> None:
    url = shape.replace("{}", password)
    check(shape, password, without_password(url) + (shown_location(url) if "://" in url else ""))


@pytest.mark.parametrize("password", ["s3cret/word", "s3cret#word", "s3cret?word", "/s3cretword", "s3cret?x=word"])
def test_the_error_says_how_special_characters_are_written(password: str) -> None:
    with pytest.raises(ConfigError, match="%2F for /, %40 for @") as refused:
        parse_url(f"redis://:{password}@127.0.0.1:1/0?connect_timeout=200ms")
    assert "s3cret" not in str(refused.value) and "word@127" not in str(refused.value)


def test_an_at_sign_of_a_password_may_stand_as_it_is_where_the_server_is_redis() -> None:
    place = parse_url("redis://app:pa@ss@127.0.0.1:6379/2")
    assert (place.user, place.password, place.hosts, place.db) == ("app", "pa@ss", (("127.0.0.1", 6379),), 2)
    assert "pa@ss" not in repr(place)


def test_escaped_passwords_are_read() -> None:
    place = parse_url("redis://app:a%2Fb%40c%23d%3Fe@127.0.0.1:6379/0")
    assert place.password == "a/b@c#d?e"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://app:pw@h:1/0?tls=true", "redis://app:***@h:1/0?tls=true"),
        ("redis://h:1,h:2/0", "redis://h:1,h:2/0"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("redis://token@h:1/0", "redis://***@h:1/0"),
        ("redis://h?replicas=h:1,h:2&other=x", "redis://h?replicas=h:1,h:2&other=***"),
        ("postgresql+psycopg://app:pw@h/d", "postgresql+psycopg://app:***@h/d"),
        ("dynamodb://eu-west-1?endpoint=http://127.0.0.1:4566", "dynamodb://eu-west-1?endpoint=http://127.0.0.1:4566"),
        ("sqlite:////home/me@work/a#b.db", "sqlite:////home/me@work/a#b.db"),
        ("sqlite://", "sqlite://"),
        ("memory:", "memory:"),
        ("lmdb:.headwater/on@line?sync=off", "lmdb:.headwater/on@line?sync=off"),
        ("nothing", "***"),
    ],
)
def test_what_is_not_secret_is_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_locations_of_sources() -> None:
    for plain in ("data/*.parquet", "s3://bucket/year=*/[ab].parquet", "data/me@work/x.csv"):
        assert shown_location(plain) == plain
    assert shown_location("s3://AKIA:pw@bucket/x") == "s3://AKIA:***@bucket/x"
    assert "pw" not in repr(shown_location("s3://bucket/x?secret_key=pw"))
    assert shown_location("s3://bucket/a;b=c") == "s3://bucket/a;b=c"
    assert shown_location("sc://h:15002/;token=pw;user_id=me") == "sc://h:15002/;token=***;user_id=me"


def test_schemes() -> None:
    assert scheme_of("redis+Cluster://h") == "redis+cluster"
    assert scheme_of("s3cret@h:1") == scheme_of(":s3cret@h") == scheme_of("") == ""
    assert is_clear("redis://a:b@h:1/0")
    assert not is_clear("redis://a:b@c@h")


@pytest.mark.parametrize("value", [["redis://:s3cret@h"], 5])
def test_a_setting_that_is_no_text_is_not_shown(value: Any, tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text(f"[online]\nurl = {json.dumps(value)}\n")
    with pytest.raises(ConfigError, match=r"online\.url: must be a non-empty text") as refused:
        load_settings(tmp_path, environ={})
    assert "s3cret" not in str(refused.value)
