"""Settings: `headwater.toml`, the environment, and their defaults."""

from __future__ import annotations

import codecs
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from headwater.clock import CLOCK_TOLERANCE, parse_duration
from headwater.deferred import deferred_pattern
from headwater.errors import ConfigError, brief, nearest, printable
from headwater.urls import without_password
from headwater.values import PartlyCompared

FILE = "headwater.toml"

_HOST: re.Pattern[str] = deferred_pattern(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
_DIGITS: re.Pattern[str] = deferred_pattern(r"[0-9]{1,20}")
_MEMORY: re.Pattern[str] = deferred_pattern(r"\d+(\.\d+)? ?[KMGT]i?B", re.IGNORECASE)


class Settings(PartlyCompared, frozen=True):
    """Everything `headwater.toml` can say; paths are as written, relative to `folder`.

    Attributes:
        folder: the project's folder.
        project: the project's name, part of every online key; empty: what the registry says, or the folder's at the
            first apply.
        definitions: files that hold definitions.
        registry_url: SQLAlchemy URL of the registry.
        online_url: URL of the online store.
        online_coalesce: whether concurrent small reads share round trips; None: those of event loops, over a network.
        online_cache: how long rows are kept in this process for eventual reads; zero: not at all.
        online_cache_rows: how many rows are kept at most.
        online_retries: how often a read that finds the online store unavailable is tried again.
        online_breaker: failures in a row from which on reads fail at once for a while; 0: never.
        online_breaker_rest: how long that while is.
        online_durable_within: how long a write that asks for durability waits for replicas.
        online_clock_tolerance: how far ahead of now a row may be known and still be put online: clocks differ.
        online_allow_eviction: whether window views may be served from a Redis that evicts rows which never expire.
        online_gone_files: `warn` of rows that source files which are gone left online, or `keep` them silently.
        offline_engine: name of the offline engine.
        offline_memory_limit: how much memory the offline engine may use, e.g. `2GB`.
        offline_threads: how many threads the offline engine may use; None: every core.
        offline_log: the offline log's folder.
        offline_run_code: whether history runs functions that the registry keeps as source text.
        offline_training_sets: the folder of saved training sets; empty: a temporary one of the store object.
        offline_settings: engine → its own settings, of `[offline.ENGINE]`; the engine says what they may be.
        materialize_lookback: how far back a run looks for source rows that came late.
        freshness_function: `linear` or `exponential`.
        freshness_half_life: half-life of the exponential function; None: the SLA.
        freshness_refresh: whether stale reads ask for a refresh.
        freshness_refresh_budget: how long a read with `stale="refresh"` waits at most.
        freshness_refresh_rest: how long a key is left alone at least once no newer row was found.
        freshness_refresh_queue: how many hints may wait in the queue.
        freshness_refresh_tries: how often a hint is tried before it is a dead letter.
        freshness_refresh_lease: how long a worker may have a hint before another takes it over.
        freshness_refresh_worker: whether this process works the queue off too.
        serving_run_code: whether online reads run functions that the registry keeps as source text.
        server_deadline: how long a request to the server may take.
        server_body: bytes of a request's body.
        server_body_timeout: how long a body may take to arrive.
        server_entities: of one read.
        server_rows: of one write or delete.
        server_in_flight: requests that one worker answers at the same time.
        server_in_flight_per_key: how many of them may be one API key's; 0: as many as there are.
        server_rate: requests a second of one API key, over all workers; 0: any number.
        server_grace: how long requests under way are given when the server stops.
        server_hosts: names by which the server may be asked; none: any, but on a loopback address its own.
    """

    folder: Path
    project: str = ""
    definitions: tuple[str, ...] = ("features.py",)
    registry_url: str = "sqlite:///.headwater/registry.db"
    online_url: str = "lmdb:.headwater/online"
    online_coalesce: bool | None = None
    online_cache: timedelta = timedelta(0)
    online_cache_rows: int = 100_000
    online_retries: int = 1
    online_breaker: int = 0
    online_breaker_rest: timedelta = timedelta(seconds=1)
    online_durable_within: timedelta = timedelta(seconds=2)
    online_clock_tolerance: timedelta = CLOCK_TOLERANCE
    online_allow_eviction: bool = False
    online_gone_files: str = "warn"
    offline_engine: str = "duckdb"
    offline_memory_limit: str | None = None
    offline_threads: int | None = None
    offline_log: str = ".headwater/log"
    offline_run_code: bool = True
    offline_training_sets: str = ".headwater/training_sets"
    materialize_lookback: timedelta = timedelta(days=1)
    freshness_function: str = "linear"
    freshness_half_life: timedelta | None = None
    freshness_refresh: bool = False
    freshness_refresh_budget: timedelta = timedelta(milliseconds=500)
    freshness_refresh_rest: timedelta = timedelta(minutes=1)
    freshness_refresh_queue: int = 100_000
    freshness_refresh_tries: int = 5
    freshness_refresh_lease: timedelta = timedelta(minutes=2)
    freshness_refresh_worker: bool = False
    serving_run_code: bool = True
    server_deadline: timedelta = timedelta(seconds=2)
    server_body: int = 16 << 20
    server_body_timeout: timedelta = timedelta(seconds=10)
    server_entities: int = 10_000
    server_rows: int = 100_000
    server_in_flight: int = 256
    server_in_flight_per_key: int = 128
    server_rate: int = 0
    server_grace: timedelta = timedelta(seconds=10)
    server_hosts: tuple[str, ...] = ()
    offline_settings: Mapping[str, Mapping[str, Any]] = msgspec.field(default_factory=dict)
    origins: Mapping[str, str] = msgspec.field(default_factory=dict)
    not_compared: ClassVar[tuple[str, ...]] = ("origins",)

    def __repr__(self) -> str:
        # what an engine is told may be a password
        values = {name: value for name, value in self._compared.items() if name != "offline_settings"}
        values |= {name: without_password(value) for name, value in values.items() if name.endswith("_url")}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in values.items())})"


_MOST_BYTES = 1 << 20
"""Of a settings file: a longer one is something else."""
_LONGEST = timedelta(days=36_500)
_SHOWN = 200
_CONTROL: re.Pattern[str] = deferred_pattern(r"[\x00-\x1f\x7f\ud800-\udfff]")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a non-empty text")
    if len(value) > 4_096:
        raise ValueError("must be a text of at most 4096 characters")
    if not value.isprintable() and _CONTROL.search(value):
        raise ValueError("must be UTF-8 text without control characters")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(v, str) and v for v in value):
        raise ValueError("must be a non-empty list of file names")
    return tuple(map(_text, value))


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false", "1", "0", "yes", "no"):
        return value.lower() in ("true", "1", "yes")
    raise ValueError("must be true or false")


def _count(value: Any, least: int = 1) -> int:
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"must be a whole number of at least {least}")
    if value >= 2**31:
        raise ValueError("must be a whole number below 2**31")
    return value


def _count_or_none(value: Any) -> int:
    return _count(value, 0)


def _function(value: Any) -> str:
    if value not in ("linear", "exponential"):
        raise ValueError("must be 'linear' or 'exponential'")
    return str(value)


def _gone_files(value: Any) -> str:
    if value not in ("warn", "keep"):
        raise ValueError("must be 'warn' or 'keep'")
    return str(value)


def _memory(value: Any) -> str:
    if not isinstance(value, str) or _MEMORY.fullmatch(value.strip()) is None:
        raise ValueError("must be an amount of memory such as '500MB' or '2GB'")
    return value.strip()


def _bytes(value: Any) -> int:
    number, unit = re.split(r"(?i)(?=[KMGT])", _memory(value).replace(" ", ""), maxsplit=1)
    base = 1024 if len(unit) == 3 else 1000
    found = int(float(number) * base ** ("KMGT".index(unit[0].upper()) + 1))
    if not 1_000 <= found < 2**31:
        raise ValueError("must be an amount of memory from 1KB to 2GB")
    return found


def _hosts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) and _HOST.fullmatch(v) for v in value):
        raise ValueError("must be a list of host names without ports, such as ['features.example']")
    return tuple(name.lower() for name in value)


def _duration(value: Any) -> timedelta:
    found = parse_duration(value)
    if not timedelta(0) <= found <= _LONGEST:
        raise ValueError(f"must be a duration from 0 to {_LONGEST.days}d")
    return found


def _lasting(value: Any) -> timedelta:
    found = _duration(value)
    if not found:
        raise ValueError("must be more than 0")
    return found


_KEYS = {
    "project": ("project", _text),
    "definitions": ("definitions", _texts),
    "registry.url": ("registry_url", _text),
    "online.url": ("online_url", _text),
    "online.coalesce": ("online_coalesce", _flag),
    "online.cache": ("online_cache", _duration),
    "online.cache_rows": ("online_cache_rows", _count),
    "online.retries": ("online_retries", _count_or_none),
    "online.breaker": ("online_breaker", _count_or_none),
    "online.breaker_rest": ("online_breaker_rest", _lasting),
    "online.durable_within": ("online_durable_within", _lasting),
    "online.clock_tolerance": ("online_clock_tolerance", parse_duration),
    "online.allow_eviction": ("online_allow_eviction", _flag),
    "online.gone_files": ("online_gone_files", _gone_files),
    "offline.engine": ("offline_engine", _text),
    "offline.memory_limit": ("offline_memory_limit", _memory),
    "offline.threads": ("offline_threads", _count),
    "offline.log": ("offline_log", _text),
    "offline.run_code": ("offline_run_code", _flag),
    "offline.training_sets": ("offline_training_sets", _text),
    "materialize.lookback": ("materialize_lookback", _duration),
    "freshness.function": ("freshness_function", _function),
    "freshness.half_life": ("freshness_half_life", _lasting),
    "freshness.refresh": ("freshness_refresh", _flag),
    "freshness.refresh_budget": ("freshness_refresh_budget", _lasting),
    "freshness.refresh_rest": ("freshness_refresh_rest", _lasting),
    "freshness.refresh_queue": ("freshness_refresh_queue", _count),
    "freshness.refresh_tries": ("freshness_refresh_tries", _count),
    "freshness.refresh_lease": ("freshness_refresh_lease", _lasting),
    "freshness.refresh_worker": ("freshness_refresh_worker", _flag),
    "serving.run_code": ("serving_run_code", _flag),
    "server.deadline": ("server_deadline", _lasting),
    "server.body": ("server_body", _bytes),
    "server.body_timeout": ("server_body_timeout", _lasting),
    "server.entities": ("server_entities", _count),
    "server.rows": ("server_rows", _count),
    "server.in_flight": ("server_in_flight", _count),
    "server.in_flight_per_key": ("server_in_flight_per_key", _count_or_none),
    "server.rate": ("server_rate", _count_or_none),
    "server.grace": ("server_grace", _lasting),
    "server.hosts": ("server_hosts", _hosts),
}


def load_settings(folder: str | Path = ".", environ: Mapping[str, str] | None = None, **given: Any) -> Settings:
    """Settings of a project folder: what is given, then the environment, then the file, then defaults.

    Args:
        folder: the project's folder, or its `headwater.toml`.
        environ: the environment; `HEADWATER_ONLINE_URL` sets `[online] url`, `HEADWATER_OFFLINE_SPARK_REMOTE` what
            `[offline.spark] remote` does.
        given: values by attribute name; None is not given.

    Raises:
        ConfigError: a folder that is not there, an unknown key (with the nearest), a bad value; each with its place.
    """
    root = Path(folder)
    try:
        if root.name == FILE and root.is_file():
            root = root.parent
        there = root.is_dir()
    except (OSError, ValueError) as bad:
        raise ConfigError(f"{brief(str(root))}: cannot be used as a project folder: {_said(bad)}") from None
    if not there:
        raise ConfigError(f"{root}: no such folder; `headwater init {root}` makes a project there")
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    engines: dict[str, dict[str, Any]] = {}
    file = root / FILE
    if file.is_file():
        flat, engines = _read_file(file)
        for key, value in flat.items():
            _set(values, origins, key, value, f"{file}: {key}")
    environment = os.environ if environ is None else environ
    for key in _KEYS:
        variable = "HEADWATER_" + key.upper().replace(".", "_")
        if environment.get(variable):
            _set(values, origins, key, environment[variable], f"environment variable {variable}")
    settings = Settings(root.resolve(), **values, origins=origins)
    settings = replace(settings, **{name: value for name, value in given.items() if value is not None})
    own = _own_variables(settings.offline_engine, environment)
    if own:
        engines[settings.offline_engine] = engines.get(settings.offline_engine, {}) | own
    return replace(settings, offline_settings=engines)


def _own_variables(engine: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The settings that the environment has for an engine."""
    start = f"HEADWATER_OFFLINE_{engine.upper()}_"
    found = {name[len(start) :].lower(): value for name, value in environment.items() if name.startswith(start)}
    return {name: value for name, value in found.items() if value}


def _set(values: dict[str, Any], origins: dict[str, str], key: str, value: Any, where: str) -> None:
    attribute, check = _KEYS[key]
    try:
        values[attribute] = check(value)
    except (ValueError, TypeError) as bad:
        # a URL may hold a password, whatever the type of the value
        shown = "" if key.endswith(".url") else f" = {brief(value)}"
        raise ConfigError(f"{where}{shown}: {bad}") from None
    origins[attribute] = where


def _read_file(file: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The file's settings by dotted key, unknown ones refused; and the tables of engines."""
    data = read_toml(file)
    flat: dict[str, Any] = {}
    offline = data.get("offline")
    engines: dict[str, dict[str, Any]] = {}
    if isinstance(offline, dict):
        engines = {n: v for n, v in offline.items() if isinstance(v, dict) and f"offline.{n}" not in _KEYS}
        data["offline"] = {name: value for name, value in offline.items() if name not in engines}
    for key, value in data.items():
        if isinstance(value, dict) and (value or any(known.startswith(f"{key}.") for known in _KEYS)):
            flat.update({f"{key}.{inner}": deep for inner, deep in value.items()})
        else:
            flat[key] = value
    for key in flat:
        if key not in _KEYS:
            raise ConfigError(f"{file}: {_unknown(key)}; the keys are {', '.join(_KEYS)}")
    return flat, engines


def read_toml(file: Path) -> dict[str, Any]:
    """What a TOML file says.

    Raises:
        ConfigError: a file that is missing, larger than 1 MB, not TOML, or nested too deeply; naming the file.
    """
    where = printable(str(file)[-_SHOWN:])
    try:
        with file.open("rb") as opened:
            content = opened.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as bad:
        raise ConfigError(f"{where}: cannot be read: {_said(bad)}") from None
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"{where}: is larger than 1 MB; it is not a settings file")
    text = ""
    try:
        text = _decoded(content)
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{where}: not TOML: nested too deeply") from None
    except ValueError as bad:
        raise ConfigError(f"{where}: not TOML: {printable(str(bad)[:_SHOWN])}{_stray(text, str(bad))}") from None


def _decoded(content: bytes) -> str:
    """The text of a TOML file: UTF-8, with or without a byte order mark, or UTF-16 with one, as PowerShell writes."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")


def _stray(text: str, problem: str) -> str:
    """Which character TOML does not take at the place of a problem, where one looks like another that it takes."""
    place = _AT_LINE.search(problem)
    if place is None:
        return ""
    line, column = text.split("\n")[int(place[1]) - 1], int(place[2])
    # the problem is found at the character, or before it where a value ends too late
    found = next((c for c in line[max(column - 2, 0) :] if c in _STRAY), None) or next(
        (c for c in line if c in _STRAY), None
    )
    if found is None:
        return ""
    return f"; the line has U+{ord(found):04X}, {_STRAY[found]}"


_AT_LINE: re.Pattern[str] = deferred_pattern(r"\(at line (\d+), column (\d+)\)")
_STRAY = (
    dict.fromkeys("\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029", "which does not end a line in TOML: write a line feed")
    | dict.fromkeys(
        "\xa0\u2000\u2002\u2003\u2007\u2009\u202f\u3000", "a space that TOML does not accept: write a plain one"
    )
    | dict.fromkeys("\u200b\u200e\u200f\u2060\ufeff", "an invisible character: remove it")
    | dict.fromkeys("\u2018\u2019\u201c\u201d\u201e\xab\xbb", "a typographic quote: write a plain one")
)
"""Characters that look like others which TOML takes → what to do about them."""


def _said(bad: Exception) -> str:
    return getattr(bad, "strerror", None) or printable(str(bad)[:_SHOWN])


def _unknown(key: str) -> str:
    """What is wrong with a key that nobody reads."""
    if len(key) > _SHOWN:
        return f"unknown key {brief(key)}"
    section, _, name = key.rpartition(".")
    if any(known.startswith(f"{key}.") for known in _KEYS):
        return f"{brief(key)} is a section: write [{key}], then its keys on separate lines"
    shown = f"[{section}] {name}" if section else name
    own = "; an engine's own settings are in [offline.ENGINE]" if section == "offline" else ""
    return f"unknown key {shown!r}{nearest(key, _KEYS)}{own}"
