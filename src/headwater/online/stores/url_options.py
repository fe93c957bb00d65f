"""The options of a store's URL, `?timeout=2s&tls=true`: recognized and read in the same way for every store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

from headwater.clock import parse_duration
from headwater.errors import ConfigError, nearest


def parse_options(query: str, known: Sequence[str]) -> dict[str, str]:
    """The options of a URL's query.

    Raises:
        ConfigError: one that the store does not have, with the nearest.
    """
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in known:
            # one that is like no option may be a part of a password with an & that is not escaped
            hint, there = nearest(name, known), ", ".join(known)
            shown = f"no option {name!r}{hint}" if hint else "an option that does not exist"
            raise ConfigError(f"[online] url: {shown}; there are {there}")
    return options


def seconds(options: Mapping[str, str], name: str, default: float) -> float:
    """An option that is a duration, `2s`, or a number of seconds.

    Raises:
        ConfigError: it is neither, or not more than 0.
    """
    text = options.get(name)
    if text is None:
        return default
    try:
        found = float(text) if text.replace(".", "", 1).isdigit() else parse_duration(text).total_seconds()
    except ValueError as bad:
        raise ConfigError(f"[online] url: {name}={text}: {bad}") from None
    if found <= 0:
        raise ConfigError(f"[online] url: {name}={text}: must be more than 0")
    return found


def flag(options: Mapping[str, str], name: str, default: bool) -> bool:
    """An option that is true or false.

    Raises:
        ConfigError: it is neither.
    """
    text = options.get(name)
    if text is None:
        return default
    if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise ConfigError(f"[online] url: {name}={text}: write true or false")
    return text.lower() in ("true", "1", "yes")
