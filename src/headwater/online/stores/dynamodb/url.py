"""Where DynamoDB is: the URL form, `dynamodb://region?table=name`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from headwater.errors import ConfigError
from headwater.online.stores.url_options import flag, parse_options, seconds
from headwater.urls import is_clear, without_password

FORM = "dynamodb://eu-west-1?table=headwater"
_OPTIONS = (
    "table",
    "endpoint",
    "profile",
    "create",
    "connections",
    "connect_timeout",
    "timeout",
    "patience",
    "write_patience",
)
_TABLE = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_REGION = re.compile(r"[a-z0-9-]*")


@dataclass(frozen=True)
class DynamoDBLocation:
    """What a URL says.

    Attributes:
        region: empty: as the usual chain has it (`AWS_REGION`, the profile).
        table: the one table that holds all views of all projects.
        endpoint: another address than the region's own; an emulator's, or a VPC endpoint's.
        profile: of the credentials' files; empty: as the usual chain has it.
        create: whether a table that is not there is made.
        connections: how many requests are under way at most.
        connect_timeout, timeout: seconds, for a connection and for an answer.
        patience, write_patience: seconds for which a throttled read or write is tried again.
    """

    region: str = ""
    table: str = "headwater"
    endpoint: str = ""
    profile: str = ""
    create: bool = True
    connections: int = 32
    connect_timeout: float = 1.0
    timeout: float = 2.0
    patience: float = 3.0
    write_patience: float = 20.0

    @property
    def shown(self) -> str:
        """The location, for messages."""
        return f"dynamodb://{self.region}/{self.table}" + (f" at {self.endpoint}" if self.endpoint else "")

    @property
    def local(self) -> bool:
        """Whether it is an emulator on this machine, which takes any credentials."""
        return urlsplit(self.endpoint).hostname in ("127.0.0.1", "localhost", "::1")


def parse_url(url: str) -> DynamoDBLocation:
    """What a URL says.

    Raises:
        ConfigError: another form, or a bad option.
    """
    if "@" in url or not is_clear(url):
        raise ConfigError(
            f"[online] url: {without_password(url)} is not like {FORM}, or contains credentials: they come from the "
            "environment, a profile or a role"
        )
    parts = urlsplit(url)
    if parts.scheme != "dynamodb" or parts.path.strip("/") or not _REGION.fullmatch(parts.netloc):
        raise ConfigError(f"[online] url: {without_password(url)} is not like {FORM}")
    options = parse_options(parts.query, _OPTIONS)
    known = DynamoDBLocation()
    return DynamoDBLocation(
        region=parts.netloc,
        table=_table(options.get("table", known.table)),
        endpoint=_endpoint(options.get("endpoint", "")),
        profile=options.get("profile", ""),
        create=flag(options, "create", known.create),
        connections=_count(options, "connections", known.connections),
        connect_timeout=seconds(options, "connect_timeout", known.connect_timeout),
        timeout=seconds(options, "timeout", known.timeout),
        patience=seconds(options, "patience", known.patience),
        write_patience=seconds(options, "write_patience", known.write_patience),
    )


def _table(name: str) -> str:
    if not _TABLE.fullmatch(name):
        raise ConfigError(f"[online] url: table={name}: a name has 3 to 255 letters, digits, '_', '-' or '.'")
    return name


def _endpoint(text: str) -> str:
    parts = urlsplit(text)
    if text and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or "@" in parts.netloc):
        raise ConfigError(f"[online] url: endpoint={text}: give an address like http://127.0.0.1:4566")
    return text.rstrip("/")


def _count(options: dict[str, str], name: str, default: int) -> int:
    text = options.get(name, str(default))
    if not text.isdigit() or not 0 < int(text) <= 1_000:
        raise ConfigError(f"[online] url: {name}={text}: must be a whole number from 1 to 1000")
    return int(text)
