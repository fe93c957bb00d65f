"""Whatever bytes come from outside end in an error of headwater, of bounded length, or are understood."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headwater as hw
from headwater.advisor.measurement import Machine, Measurement
from headwater.advisor.profiles import load
from headwater.advisor.requirements import Requirements
from headwater.config import load_settings
from headwater.errors import ConfigError, FormatError, HeadwaterError, UsageError
from headwater.online.meta import (
    pack_log_id,
    pack_watermark,
    unpack_log_id,
    unpack_watermark,
)
from headwater.online.session import Session
from headwater.planning.watermark import Watermark
from headwater.testing import SCALE

MOST = 2_000
"""Characters of a message that names what was wrong."""

SETTINGS = (
    b'project = "flights"\n[online]\nurl = "memory:"\ncache = "1h30m"\ncache_rows = 10\n[freshness]\nrefresh = true\n'
)
REQUIREMENTS = b'max_latency_ms = 10\nneeds = ["streaming"]\n[decision_weights]\ncost = 1\n'
PROFILES = b'[feast]\nlock_in = "low"\nthroughput_qps = [1, 2]\n'
MEASUREMENT = Measurement(
    "p",
    datetime(2026, 6, 1, tzinfo=UTC),
    1.0,
    2.0,
    3,
    Machine("Linux", "x", 2, 2, 1.0, 0.5),
    {},
    {},
    "",
    "",
    (),
    (),
    (),
).to_json()
TOKEN = Session("flights:1", {"node": 7, "other": 2**40}).token.encode()


def settings_file(content: bytes, folder: Path) -> Any:
    (folder / "headwater.toml").write_bytes(content)
    return load_settings(folder, {})


def requirements_file(content: bytes, folder: Path) -> Any:
    (folder / "r.toml").write_bytes(content)
    return Requirements.from_file(folder / "r.toml")


def profiles_file(content: bytes, folder: Path) -> Any:
    (folder / "p.toml").write_bytes(content)
    return load(folder / "p.toml")


def measurement(content: bytes, _: Path) -> Any:
    return Measurement.from_json(content)


def token(content: bytes, _: Path) -> Any:
    return Session.from_token(content.decode("latin-1"))


def token_of(content: bytes, _: Path) -> Any:
    return Session.from_token(base64.urlsafe_b64encode(content).decode())


def watermark(content: bytes, _: Path) -> Any:
    return unpack_watermark(content)


def log_id(content: bytes, _: Path) -> Any:
    return unpack_log_id(content)


READERS: list[tuple[Callable[[bytes, Path], Any], bytes]] = [
    (settings_file, SETTINGS),
    (requirements_file, REQUIREMENTS),
    (profiles_file, PROFILES),
    (measurement, MEASUREMENT),
    (token, TOKEN),
    (token_of, base64.urlsafe_b64decode(TOKEN + b"=" * (-len(TOKEN) % 4))),
    (watermark, pack_watermark("p", "v", "1.0.0", Watermark(7, 8))),
    (log_id, pack_log_id("p", "an id")),
]
quiet = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)


@st.composite
def mutations(draw: st.DrawFn, valid: bytes) -> bytes:
    """Valid bytes with some of them changed, removed, repeated or put in."""
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(["change", "cut", "repeat", "insert"]))
        if kind == "change" and content:
            content[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del content[at : at + draw(st.integers(1, 40))]
        elif kind == "repeat":
            content[at:at] = content[at : at + 20] * draw(st.integers(1, 50))
        else:
            content[at:at] = draw(st.binary(max_size=20))
    return bytes(content)


def check(reader: Callable[[bytes, Path], Any], content: bytes, folder: Path) -> None:
    try:
        reader(content, folder)
    except HeadwaterError as error:
        assert len(str(error)) < MOST
        assert all(line.isprintable() for line in str(error).split("\n"))


@pytest.mark.parametrize(("reader", "valid"), READERS)
def test_valid_bytes_are_understood(reader: Callable[[bytes, Path], Any], valid: bytes, tmp_path: Path) -> None:
    assert reader(valid, tmp_path) is not None


@pytest.mark.parametrize(("reader", "valid"), READERS)
@quiet
@given(data=st.data())
def test_any_bytes_end_in_an_error_of_headwater(
    reader: Callable[[bytes, Path], Any], valid: bytes, data: st.DataObject, tmp_path: Path
) -> None:
    check(reader, data.draw(st.binary(max_size=300) | mutations(valid)), tmp_path)


packed = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize("reader", [token_of, watermark, log_id])
@quiet
@given(value=packed)
def test_any_packed_value_ends_in_an_error_of_headwater(
    reader: Callable[[bytes, Path], Any], value: Any, tmp_path: Path
) -> None:
    check(reader, msgspec.msgpack.encode(value), tmp_path)


@pytest.mark.parametrize("reader", [token_of, watermark, log_id])
@pytest.mark.parametrize("nested", [b"\x91" * 40_000, b"\x81\xa1a" * 20_000])
def test_values_nested_too_deeply_are_refused(
    reader: Callable[[bytes, Path], Any], nested: bytes, tmp_path: Path
) -> None:
    with pytest.raises(HeadwaterError) as error:
        reader(nested, tmp_path)
    assert len(str(error.value)) < MOST


@pytest.mark.parametrize("reader", [settings_file, requirements_file, profiles_file])
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"x = " + b"[" * 50_000, "nested too deeply"),
        (b"x = " + b"{a=" * 50_000, "nested too deeply"),
        (b"x = " + b"9" * 10_000, "not TOML"),
        (b"x" * 2_000_000, "larger than 1 MB"),
        (b"\xff", "not TOML"),
        (b"x" * 5_000, "not TOML"),
        (b'"' + b"x" * 5_000 + b'" = 1', "unknown|must be a table"),
    ],
)
def test_toml_that_is_not_settings_is_refused_with_the_files_name(
    reader: Callable[[bytes, Path], Any], content: bytes, why: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"\.toml: .*({why})") as error:
        reader(content, tmp_path)
    assert len(str(error.value)) < MOST


@pytest.mark.parametrize("text", ["", "=", "ü", "\0", "kQ", "gaBh", "x" * 70_000, "wQ\n", None, 7, b"kwGg"])
def test_a_forged_token_is_not_a_session_token(text: Any) -> None:
    with pytest.raises(UsageError, match="is not a session token") as error:
        Session.from_token(text)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "fields", [[0, "s", {}], [True, "s", {}], [1, "s"], [1, 2, {}], [1, "s", {"n": "7"}], [1, "s", 3]]
)
def test_a_token_of_other_fields_is_refused(fields: list[Any]) -> None:
    with pytest.raises(UsageError, match="is not a session token"):
        token_of(msgspec.msgpack.encode(fields), Path())


def test_a_token_of_a_newer_headwater_says_so() -> None:
    with pytest.raises(FormatError, match="newer"):
        token_of(msgspec.msgpack.encode([3, "s", {}]), Path())


values = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            "9" * 5_000 + "d",
            "99999999999999999d",
            "-1",
            "1e9",
            "٣",
            "\ud800",
            "a\0b",
            "x" * 9_000,
            "\x1b[31m",
            "1d" * 900,
        ]
    ),
    st.integers(-(10**30), 10**30).map(str),
)


@quiet
@given(
    key=st.sampled_from(["ONLINE_CACHE", "ONLINE_RETRIES", "OFFLINE_THREADS", "PROJECT", "DEFINITIONS", "OFFLINE_LOG"]),
    text=values,
)
def test_any_environment_ends_in_an_error_that_names_the_variable(key: str, text: str, tmp_path: Path) -> None:
    try:
        load_settings(tmp_path, {f"HEADWATER_{key}": text})
    except ConfigError as error:
        assert f"environment variable HEADWATER_{key}" in str(error)
        assert len(str(error)) < MOST and str(error).isprintable()


@pytest.mark.parametrize("folder", ["a\0b", "x" * 5_000, "\ud800"])
def test_a_folder_that_cannot_be_is_refused(folder: str) -> None:
    with pytest.raises(ConfigError):
        load_settings(folder, {})


TEXTS = [
    "",
    " ",
    "x",
    "1",
    "1.0",
    "1.0.0.0",
    "9" * 5_000,
    "-1.0.0",
    "1.0.0 x",
    "٣.0.0",
    "\ud800",
    "a\0b",
    None,
    7,
    1.5,
    b"1.0.0",
]


@pytest.mark.parametrize("version", TEXTS)
def test_a_version_that_is_none_is_not_found(version: Any) -> None:
    with hw.FeatureStore.in_memory(registered()) as store:
        calls: list[Callable[[], Any]] = [
            *(lambda name=name: store.promote(name, version) for name in ("v", "s")),
            *(lambda name=name: store.retire(name, version) for name in ("v", "s")),
            lambda: store.materialize(f"v@{version}"),
            lambda: store.get_online_features([f"v@{version}:x"], [1]),
            lambda: store.get_online_features(f"s@{version}", [1]),
        ]
        if version is not None:
            calls += [
                lambda: store.get_feature_view("v", version),
                lambda: store.get_feature_service("s", version),
                lambda: store.registry.get_feature_definition("v:x", version=version),
            ]
        for call in calls:
            with pytest.raises(HeadwaterError) as error:
                call()
            assert len(str(error.value)) < MOST


REGISTERED = [
    ("registry_entity", "definition"),
    ("registry_version", "definition"),
    ("registry_version", "kind"),
    ("registry_version", "name"),
    ("registry_version", "version"),
    ("registry_pointer", "kind"),
    ("registry_change", "stage"),
]


def registered() -> list[Any]:
    user = hw.Entity("user", join_keys={"user": hw.Int64})
    view = hw.FeatureView("v", entity=user, source=hw.PushSource(event_time="at"), features=[hw.Feature("x", hw.Int64)])
    return [user, view, hw.FeatureService("s", [view["x"]])]


@pytest.mark.parametrize(("table", "column"), REGISTERED)
@settings(quiet, max_examples=8 * SCALE)
@given(data=st.data())
def test_any_row_of_the_registry_ends_in_an_error_of_headwater(
    table: str, column: str, data: st.DataObject, tmp_path: Path
) -> None:
    with hw.FeatureStore.in_memory(registered()) as store:
        with store.registry.engine.begin() as connection:
            rows = connection.execute(sa.text(f"SELECT rowid AS id, {column} AS value FROM {table}")).all()
            row = data.draw(st.sampled_from([(row.id, row.value) for row in rows]))
            found = data.draw(mutations(row[1].encode()) | st.binary(max_size=30) | st.just(b"[" * 50_000))
            changed = found if data.draw(st.booleans()) else found.decode("utf-8", "replace")
            update = sa.text(f"UPDATE {table} SET {column} = :value WHERE rowid = :id")
            connection.execute(update, {"value": changed, "id": row[0]})
            connection.execute(sa.text("UPDATE registry_revision SET revision = revision + 1"))
        try:
            store.refresh_registry()
            store.registry.changes()
        except HeadwaterError as error:
            assert len(str(error)) < MOST
