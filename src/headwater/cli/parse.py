"""Text of the command line as values: instants, durations, keys, features."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater.cli.key_text import key_value
from headwater.clock import YEARS, format_duration, parse_duration, to_micros
from headwater.errors import EntityKeyError, UsageError, brief, nearest

if TYPE_CHECKING:
    from headwater.types import DType


CSVOption = Annotated[
    list[str] | None,
    typer.Option(
        "--csv",
        metavar="NAME=VALUE",
        help="Format of a CSV file: delimiter=';' decimal=, skip=1 nulls=NA,-; repeat it.",
    ),
]


INCLUDABLE = ("status", "event_time")
_HEX = r": after 0x or \x come hex digits, two for each byte"
_WIDE = ": it is beyond 64 bits; declare the join key as hw.String"


@dataclass(frozen=True)
class Moment:
    """An instant as it is typed.

    Attributes:
        time: where a time is typed; naive without an offset.
        before: how long before now, where `now` or `-2h` is.
    """

    time: datetime | None = None
    before: timedelta = timedelta(0)

    def at(self, now: datetime) -> datetime:
        """The instant, where now is another one; a naive time is of UTC.

        Raises:
            UsageError: outside the years 1 to 9999.
        """
        given = self.given(now)
        return given.replace(tzinfo=UTC) if given.tzinfo is None else given

    def given(self, now: datetime) -> datetime:
        """`at`, but a naive time stays naive."""
        if self.time is not None:
            return self.time
        try:
            return now - self.before
        except OverflowError:
            raise UsageError(f"{format_duration(self.before)} before {now.isoformat()} is {YEARS}") from None


def moment(text: str) -> Moment:
    """An instant from ISO text, `now`, or how long ago (`-2h`); without a zone it is UTC."""
    text = text.strip()
    if text.lower() == "now":
        return Moment()
    if text.startswith("-"):
        return Moment(before=duration(text[1:]))
    try:
        when = datetime.fromisoformat(text)
        to_micros(when)
    except ValueError:
        raise typer.BadParameter(
            f"{brief(text)} is not a time; write it as 2026-07-01, 2026-07-01T12:00 or 2026-07-01T12:00+02:00 "
            "(without a zone it is UTC), as -2h for two hours ago, or as now"
        ) from None
    return Moment(when)


def instant(text: str) -> datetime:
    """`moment` as of now."""
    return moment(text).at(datetime.now(UTC))


def duration(text: str) -> timedelta:
    """A duration such as `5m`."""
    try:
        return parse_duration(text)
    except ValueError as bad:
        raise typer.BadParameter(str(bad)) from None


def bucket(text: str) -> tuple[int, int]:
    """A part of a whole as it is typed: `3/8`, the fourth of eight."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise typer.BadParameter(f"{text!r}: write I/N, part I of N, from 0/N")
    return int(index), int(count)


def features(given: Sequence[str]) -> list[str] | str:
    """What `--features` names: references, each option or comma one more, or a service alone."""
    names = [name.strip() for text in given for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError("no features: write --features weather:temp,weather:wind_speed or --features SERVICE")
    return names[0] if len(names) == 1 and ":" not in names[0] else names


def included(text: str) -> tuple[str, ...]:
    """What `--include` adds beside the features."""
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    for part in parts:
        if part not in INCLUDABLE:
            raise UsageError(f"--include {part}: write {' or '.join(INCLUDABLE)}{nearest(part, INCLUDABLE)}")
    return parts


def entities(given: Sequence[str], join_keys: Mapping[str, DType]) -> dict[str, Any]:
    """The entities that `--key airport=JFK --key airport=LGA` names, as a column of values for each key.

    A key given once holds for every row; keys given several times are rows side by side.

    Args:
        given: `key=value` texts.
        join_keys: name → dtype of the keys that are asked for.

    Raises:
        UsageError: text without `=`.
        EntityKeyError: a key that is not asked for or missing, a value of another type, columns of different lengths.
    """
    columns: dict[str, list[Any]] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            example = next(iter(join_keys), "airport")
            raise UsageError(f"--key {brief(text)}: write --key {example}=VALUE")
        columns.setdefault(name.strip(), []).append(_key_value(name.strip(), value, join_keys))
    missing = [name for name in join_keys if name not in columns]
    if missing:
        raise EntityKeyError(
            f"no value for {_named(missing)}: add {' '.join(f'--key {name}=VALUE' for name in missing)}"
        )
    lengths = {name: len(values) for name, values in columns.items() if len(values) > 1}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise EntityKeyError(f"every join key must be given the same number of times; given: {counts}")
    rows = max(lengths.values(), default=1)
    return {name: values * rows if len(values) < rows else values for name, values in columns.items()}


def _key_value(name: str, text: str, join_keys: Mapping[str, DType]) -> Any:
    if name not in join_keys:
        keys = f"the keys are {', '.join(join_keys)}" if join_keys else "no keys are needed"
        raise EntityKeyError(f"--key {brief(name)}: no such join key; {keys}{nearest(name, join_keys)}")
    dtype = join_keys[name]
    try:
        return key_value(text, dtype)
    except (ValueError, OverflowError):
        more = _HEX if dtype.name == "bytes" else _WIDE if dtype.name == "int64" and _digits(text) else ""
        raise EntityKeyError(
            f"--key {name}: the join key {name!r} is {dtype}, and {brief(text)} is not one{more}"
        ) from None


def request(given: Sequence[str], fields: Mapping[str, DType]) -> dict[str, Any] | None:
    """The values that `--request hour=9` gives to on-demand features; repeated, one for each entity.

    Args:
        given: `field=value` texts.
        fields: name → dtype of the fields that are asked for.

    Raises:
        UsageError: text without `=`, a field that no feature takes, a value of another type.
    """
    found: dict[str, list[Any]] = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise UsageError(f"--request {brief(text)}: write --request {next(iter(fields), 'hour')}=VALUE")
        if name not in fields:
            known = f"the fields are {', '.join(fields)}" if fields else "none of these features takes a request field"
            raise UsageError(f"--request {brief(name)}: no such request field; {known}{nearest(name, fields)}")
        found.setdefault(name, []).append(_field_value(name, value, fields[name]))
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()} or None


def _field_value(name: str, text: str, dtype: DType) -> Any:
    if dtype.name in ("float32", "float64"):
        with contextlib.suppress(ValueError):
            return float(text)
    elif dtype.name in ("array", "embedding"):
        with contextlib.suppress(ValueError):
            return json.loads(text)
    else:
        with contextlib.suppress(ValueError, OverflowError):
            return key_value(text, dtype)
    raise UsageError(f"--request {name}: the field {name!r} is {dtype}, and {brief(text)} is not one")


def _digits(text: str) -> bool:
    return text.strip().removeprefix("-").isdecimal()


def _named(names: Iterable[str]) -> str:
    return ", ".join(f"join key {name!r}" for name in names)
