"""The HTTP proxy on the way to DynamoDB, where the environment names one (HTTPS_PROXY, HTTP_PROXY, NO_PROXY)."""

from __future__ import annotations

import base64
import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from headwater.errors import ConfigError
from headwater.urls import without_password


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        host, port: where it listens.
        headers: what it is shown; empty without user and password.
        url: as it was given, user and password included.
    """

    host: str
    port: int
    headers: Mapping[str, str] = field(repr=False)
    url: str = field(repr=False)

    def connection(
        self, host: str, port: int, timeout: float, context: ssl.SSLContext | None
    ) -> http.client.HTTPConnection:
        """A connection through the proxy, not open yet: with TLS a tunnel, which the proxy cannot look into."""
        if context is None:
            return http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        tunnelled = http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=context)
        tunnelled.set_tunnel(host, port, dict(self.headers))
        return tunnelled


def parse_proxy(text: str) -> Proxy:
    """The proxy of a URL, `http://user:password@host:port`; `http://` may be left out.

    Raises:
        ConfigError: another kind of proxy, or not a URL.
    """
    url = text if "://" in text else f"http://{text}"
    parts = urlsplit(url)
    try:
        port = parts.port or 80
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port:
        raise ConfigError(
            f"the proxy {without_password(text)} (HTTPS_PROXY or HTTP_PROXY) cannot be used: it must be like "
            "http://host:port; where DynamoDB is reached without it, add its host to NO_PROXY"
        )
    headers = {}
    if parts.username is not None:
        given = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(given.encode()).decode()}"
    return Proxy(parts.hostname, port, headers, url)
