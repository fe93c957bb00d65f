"""The address of a server, as users write it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from headwater.errors import UsageError, brief

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server is.

    Attributes:
        scheme: `http` or `https`.
        host: name or IP address.
        port: its port.
        path: what stands before every route, where a proxy serves it below a path; without a slash at its end.
    """

    scheme: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def parse_address(url: str) -> ServerAddress:
    """The address in a URL.

    Raises:
        UsageError: it is not a URL of a server; says what one looks like.
    """
    wrong = f"{brief(url)} is not the URL of a server: write it as 'http://127.0.0.1:8080'"
    if not isinstance(url, str):
        raise UsageError(wrong)
    try:
        parts = urlsplit(url.strip())
        port, host = parts.port, parts.hostname
    except ValueError:
        raise UsageError(wrong) from None
    if parts.username or parts.password:
        raise UsageError("the URL of a server has no user or password: give the key as api_key=")
    if parts.scheme not in _PORTS or not host or parts.query or parts.fragment or not url.isascii():
        raise UsageError(wrong)
    return ServerAddress(parts.scheme, host, port or _PORTS[parts.scheme], parts.path.rstrip("/"))
