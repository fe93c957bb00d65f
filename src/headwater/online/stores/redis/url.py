"""Where Redis is: the URL forms of standalone servers with replicas, of Sentinel, and of a cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from headwater.errors import ConfigError
from headwater.online.stores.url_options import flag, parse_options, seconds
from headwater.urls import ESCAPED, is_clear, scheme_of, without_password

Address = tuple[str, int]

FORMS = (
    "redis://user:password@host:6379/0?replicas=host:6380,host:6381",
    "rediss:// (TLS)",
    "redis+sentinel://host:26379,host:26380/mymaster/0",
    "redis+cluster://host:7000,host:7001",
)
_KINDS = {"redis": "single", "rediss": "single", "redis+sentinel": "sentinel", "redis+cluster": "cluster"}
_NETLOC = re.compile(r"[^:]+://(?P<netloc>[^/?#]*)")
_PORTS = {"single": 6379, "sentinel": 26379, "cluster": 6379}
_OPTIONS = (
    "replicas",
    "tls",
    "ca",
    "cert",
    "key",
    "verify",
    "connect_timeout",
    "timeout",
    "sentinel_user",
    "sentinel_password",
)


_IN_FRONT = {
    **dict.fromkeys(("password", "passwd", "pass"), ":PASSWORD@host (with a user: USER:PASSWORD@host)"),
    **dict.fromkeys(("user", "username"), "USER:PASSWORD@host"),
    **dict.fromkeys(("db", "database"), "host/NUMBER"),
}
"""What other libraries take as options, and where it stands here."""


@dataclass(frozen=True)
class RedisLocation:
    """What a URL says.

    Attributes:
        kind: `single`, `sentinel` or `cluster`.
        hosts: the server (and its replicas), the Sentinels, or some nodes of the cluster.
        service: the name that the Sentinels know the primary by.
        db: the database's number.
        user, password: of the data nodes; empty: none.
        sentinel_user, sentinel_password: of the Sentinels.
        tls: whether connections are encrypted.
        ca, cert, key: files of certificates; empty: the system's, none.
        verify: whether the server's certificate is checked.
        connect_timeout, timeout: seconds, for a connection and for an answer.
    """

    kind: str
    hosts: tuple[Address, ...]
    service: str = ""
    db: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    sentinel_user: str = ""
    sentinel_password: str = field(default="", repr=False)
    tls: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""
    verify: bool = True
    connect_timeout: float = 1.0
    timeout: float = 2.0

    @property
    def shown(self) -> str:
        """The location without secrets, for messages."""
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        path = (
            f"/{self.service}/{self.db}" if self.kind == "sentinel" else "" if self.kind == "cluster" else f"/{self.db}"
        )
        scheme = {"single": "rediss" if self.tls else "redis"}.get(self.kind, f"redis+{self.kind}")
        return f"{scheme}://{hosts}{path}"


def parse_url(url: str, folder: Path = Path()) -> RedisLocation:
    """What a URL says; files of certificates are relative to the folder.

    Raises:
        ConfigError: another form, a bad port or option, a file that is not there; the password is never shown.
    """
    kind, found = _KINDS.get(scheme_of(url)), _NETLOC.match(url)
    login, _, hosts = found["netloc"].rpartition("@") if found is not None else ("", "", "")
    # an @ of the password may stand as it is, before the last
    bare = "" if found is None else f"{scheme_of(url)}://{hosts}{url[found.end() :]}"
    if kind is None or not is_clear(bare):
        raise ConfigError(f"[online] url: {without_password(url)} is not like one of {', '.join(FORMS)}; {ESCAPED}")
    parts = urlsplit(bare)
    user, _, password = login.partition(":")
    wrong = next((name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if name in _IN_FRONT), None)
    if wrong is not None:
        raise ConfigError(f"[online] url: {wrong}= is not an option; write {parts.scheme}://{_IN_FRONT[wrong]}")
    options = parse_options(parts.query, _OPTIONS)
    named = [_address(host, _PORTS[kind]) for host in (hosts or "localhost").split(",")]
    if options.get("replicas"):
        if kind != "single":
            raise ConfigError(f"[online] url: replicas= is for redis://, {parts.scheme}:// finds them itself")
        named += [_address(host, 6379) for host in options["replicas"].split(",")]
    path = [unquote(part) for part in parts.path.split("/") if part]
    service = path.pop(0) if kind == "sentinel" and path and not path[0].isdigit() else ""
    if kind == "sentinel" and not service:
        raise ConfigError(f"[online] url: {FORMS[2]}: the name of the primary is missing")
    return RedisLocation(
        kind=kind,
        hosts=tuple(dict.fromkeys(named)),
        service=service,
        db=_database(path, kind),
        user=unquote(user),
        password=unquote(password),
        sentinel_user=options.get("sentinel_user", ""),
        sentinel_password=options.get("sentinel_password", ""),
        tls=parts.scheme == "rediss" or flag(options, "tls", False),
        ca=_file(options, "ca", folder),
        cert=_file(options, "cert", folder),
        key=_file(options, "key", folder),
        verify=flag(options, "verify", True),
        connect_timeout=seconds(options, "connect_timeout", 1.0),
        timeout=seconds(options, "timeout", 2.0),
    )


def _file(options: Mapping[str, str], name: str, folder: Path) -> str:
    """The path of a file that an option names; empty where it names none."""
    if not options.get(name):
        return ""
    path = folder / options[name]
    if not path.is_file():
        raise ConfigError(f"[online] url: {name}={options[name]}: there is no such file ({path.absolute()})")
    return str(path)


def _address(text: str, port: int) -> Address:
    host, colon, number = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, number = text, str(port)
    if not host or not number.isdigit() or not 0 < int(number) < 65536:
        raise ConfigError(f"[online] url: {text!r} is not a valid host:port")
    return host.strip("[]"), int(number)


def _database(path: list[str], kind: str) -> int:
    if not path:
        return 0
    if len(path) > 1 or not path[0].isdigit() or (kind == "cluster" and path[0] != "0"):
        raise ConfigError(f"[online] url: /{'/'.join(path)}: a database is a number (always 0 for a cluster)")
    return int(path[0])
