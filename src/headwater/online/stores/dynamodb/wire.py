"""The way to DynamoDB: signed requests over connections that are kept; credentials are the vendor's library's affair.

The only file that imports botocore. Its client is not used: packing and parsing cost it 2 ms of
processor time for a row written and 6 ms for a hundred read (docs/decisions/004-dynamodb-without-its-client.md).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import os
import select
import ssl
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore
import botocore.exceptions
import botocore.regions
import botocore.session
import botocore.utils
from botocore.credentials import RefreshableCredentials

from headwater import forks
from headwater.clock import system_clock
from headwater.errors import ConfigError, Unavailable, needs_package
from headwater.online.connections import ConnectionCounts, MadeConnections
from headwater.online.stores.dynamodb.calls import Lost, Request, Response
from headwater.online.stores.dynamodb.proxy import Proxy, parse_proxy
from headwater.online.stores.dynamodb.url import DynamoDBLocation
from headwater.urls import without_password

_CONTENT = "application/x-amz-json-1.0"
_VERSION = "DynamoDB_20120810"
_ENDPOINTS = ("AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL")
_ANY = ("any", "any", None)
"""What an emulator on this machine is given where there are no credentials."""
_REMOTE_ROLES = ("container-role", "iam-role")
_NONE = (
    "no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile (profile= in [online] url), "
    "or run under a role"
)

_NOWHERE = "no AWS region: set it in [online] url (dynamodb://eu-west-1), or set AWS_REGION or AWS_DEFAULT_REGION"

Keys = tuple[str, str, str | None]
"""Access key, secret key, token."""


class Signer:
    """Signs requests to one endpoint (AWS Signature Version 4).

    Args:
        endpoint: address.
        region: of the endpoint.
    """

    def __init__(self, endpoint: str, region: str) -> None:
        parts = urlsplit(endpoint)
        self.region = region
        self.tls = parts.scheme == "https"
        self.hostname = parts.hostname or ""
        self.port = parts.port or (443 if self.tls else 80)
        self.host = parts.netloc
        self.path = parts.path or "/"

    def headers(self, request: Request, keys: Keys, now: datetime) -> dict[str, str]:
        """The headers of a request."""
        access, secret, token = keys
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        headers = {"content-type": _CONTENT, "host": self.host, "x-amz-date": stamp}
        if token:
            headers["x-amz-security-token"] = token
        headers["x-amz-target"] = f"{_VERSION}.{request.operation}"
        names = ";".join(headers)
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        digest = hashlib.sha256(request.body).hexdigest()
        canonical = f"POST\n{self.path}\n\n{lines}\n{names}\n{digest}"
        scope = f"{day}/{self.region}/dynamodb/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.new(_day_key(secret, day, self.region), text.encode(), hashlib.sha256).hexdigest()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return headers


@lru_cache(maxsize=16)
def _day_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "dynamodb", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _opened(location: DynamoDBLocation) -> tuple[Any, Signer]:
    """A session of the vendor's library, and the endpoint: the URL's, the environment's, or the region's own."""
    try:
        session = botocore.session.Session(profile=location.profile or None)
        session.get_scoped_config()  # tells of a profile that is not there
        if location.local:
            # an emulator's credentials are not looked for in the network
            providers = session.get_component("credential_provider")
            for name in _REMOTE_ROLES:
                providers.remove(name)
        # AWS_REGION is what everybody sets, and what the library does not know
        region = location.region or session.get_config_variable("region") or os.environ.get("AWS_REGION")
        if not region:
            raise ConfigError(f"{location.shown}: {_NOWHERE}")
        session.set_config_variable("region", region)
    except botocore.exceptions.BotoCoreError as bad:
        raise ConfigError(f"{location.shown}: {bad}") from bad
    given = location.endpoint or next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")
    return session, Signer(given.rstrip("/") or _regional(session, region), region)


def _regional(session: Any, region: str) -> str:
    """The region's own endpoint: of its partition (China, GovCloud, …), FIPS or dual-stack where that is configured."""
    known = botocore.regions.EndpointResolver(session.get_data("endpoints")).construct_endpoint(
        "dynamodb",
        region,
        use_dualstack_endpoint=bool(session.get_config_variable("use_dualstack_endpoint")),
        use_fips_endpoint=bool(session.get_config_variable("use_fips_endpoint")),
    )
    # a region that is newer than the library
    return f"https://{known['hostname'] if known else f'dynamodb.{region}.amazonaws.com'}"


def _proxy(signer: Signer) -> Proxy | None:
    """The proxy that the environment names for an endpoint; None where it is reached directly."""
    scheme = "https" if signer.tls else "http"
    url = botocore.utils.get_environ_proxies(f"{scheme}://{signer.host}{signer.path}").get(scheme)
    return parse_proxy(url) if url else None


def _tls() -> ssl.SSLContext:
    """The system's certificates, and those that come with the vendor's library."""
    own = os.environ.get("AWS_CA_BUNDLE")
    context = ssl.create_default_context(cafile=own)
    bundle = Path(botocore.__file__).with_name("cacert.pem")
    if not own and bundle.is_file():
        context.load_verify_locations(bundle)
    return context


@contextmanager
def _loading(location: DynamoDBLocation) -> Iterator[None]:
    try:
        yield
    except botocore.exceptions.BotoCoreError as bad:
        raise Unavailable(f"{location.shown}: cannot load AWS credentials: {bad}") from bad


def _frozen(location: DynamoDBLocation, credentials: Any) -> Keys:
    """The keys of some credentials as they are now."""
    if credentials is None:
        if location.local:
            return _ANY
        raise ConfigError(f"{location.shown}: {_NONE}")
    with _loading(location):
        keys = credentials.get_frozen_credentials()
    return keys.access_key, keys.secret_key, keys.token


class Wire:
    """Sends requests; safe to use from several threads, of one process.

    Args:
        location: where to.
    """

    def __init__(self, location: DynamoDBLocation) -> None:
        self._location = location
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._made = MadeConnections(lambda connection: connection.sock is not None)
        self._closed = False
        session, self._signer = _opened(location)
        self._credentials = session.get_credentials()
        self._tls = _tls() if self._signer.tls else None
        self._proxy = _proxy(self._signer)
        self._path, self._shown = self._signer.path, dict[str, str]()
        if self._proxy is not None and self._tls is None:
            # without a tunnel the proxy is asked for the whole address, and shown who asks each time
            self._path, self._shown = f"http://{self._signer.host}{self._path}", dict(self._proxy.headers)

    def send(self, request: Request) -> Response | Lost:
        """Send a request and wait for its answer.

        Raises:
            ConfigError: there are no credentials.
        """
        headers = self._signer.headers(request, self._keys(), request.signed or system_clock())
        connection, used = self._take()
        answer, kept = self._exchange(connection, request, headers)
        if isinstance(answer, Lost) and used and not answer.sent:
            # an idle connection that was closed long ago
            connection = self._new()
            answer, kept = self._exchange(connection, request, headers)
        if kept and not self._closed:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def _exchange(
        self, connection: http.client.HTTPConnection, request: Request, headers: dict[str, str]
    ) -> tuple[Response | Lost, bool]:
        """What came back, and whether the connection can be used again."""
        sent = False
        try:
            if connection.sock is None:
                connection.timeout = min(self._location.connect_timeout, request.timeout)
                connection.connect()
            connection.sock.settimeout(request.timeout)
            connection.request("POST", self._path, request.body, headers | self._shown)
            sent = True
            response = connection.getresponse()
            body = response.read()
            return Response(response.status, body), not response.will_close
        except (OSError, http.client.HTTPException) as bad:
            return Lost(_why(bad, request), sent), False

    def _keys(self) -> Keys:
        return _frozen(self._location, self._credentials)

    def _take(self) -> tuple[http.client.HTTPConnection, bool]:
        """A connection, and whether it was used before."""
        with suppress(IndexError):
            while True:
                connection = self._idle.pop()
                if _open(connection):
                    return connection, True
                connection.close()
        return self._new(), False

    def _new(self) -> http.client.HTTPConnection:
        signer, timeout = self._signer, self._location.connect_timeout
        made: http.client.HTTPConnection
        if self._proxy is not None:
            made = self._proxy.connection(signer.hostname, signer.port, timeout, self._tls)
        elif self._tls is not None:
            made = http.client.HTTPSConnection(signer.hostname, signer.port, timeout=timeout, context=self._tls)
        else:
            made = http.client.HTTPConnection(signer.hostname, signer.port, timeout=timeout)
        self._made.add(made)
        return made

    def connections(self) -> ConnectionCounts:
        """Those that are open."""
        return self._made.counts(len(self._idle))

    def close(self) -> None:
        """End the connections that are idle, and each of the others after its answer."""
        self._closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop().close()


def _open(connection: http.client.HTTPConnection) -> bool:
    """Whether the other side has not closed an idle connection."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return not poll.poll(0)


def _why(bad: Exception, request: Request) -> str:
    if isinstance(bad, TimeoutError):
        return f"no response within {request.timeout:.3g} s"
    return str(bad) or type(bad).__name__


class AsyncWire:
    """The same for one event loop; a request that is cancelled ends its connection.

    Args:
        location: where to.
    """

    def __init__(self, location: DynamoDBLocation) -> None:
        with needs_package("aiohttp"):
            self._aiohttp: Any = import_module("aiohttp")
        self._location = location
        self._session, self._signer = _opened(location)
        self._proxy = _proxy(self._signer)
        self._credentials: Any = None
        self._http: Any = None
        forks.after_fork(self, AsyncWire._in_child)

    def _in_child(self) -> None:
        # they belong to an event loop of the parent's
        forks.abandon(self._http, self._credentials)
        self._http = self._credentials = None

    async def send(self, request: Request) -> Response | Lost:
        """As `Wire.send`."""
        aiohttp = self._aiohttp
        headers = self._signer.headers(request, await self._keys(), request.signed or system_clock())
        client, by = self._client(), None if self._proxy is None else self._proxy.url
        times = aiohttp.ClientTimeout(total=request.timeout, sock_connect=self._location.connect_timeout)
        try:
            url = f"{'https' if self._signer.tls else 'http'}://{self._signer.host}{self._signer.path}"
            async with client.post(url, data=request.body, headers=headers, timeout=times, proxy=by) as response:
                return Response(response.status, await response.read())
        except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError) as bad:
            why = _why(bad, request)
            return Lost(why if by is None else why.replace(by, without_password(by)), sent=False)
        except (aiohttp.ClientError, OSError) as bad:
            return Lost(_why(bad, request))

    def _client(self) -> Any:
        if self._http is None:
            context = _tls() if self._signer.tls else False
            connector = self._aiohttp.TCPConnector(limit=self._location.connections, ssl=context)
            self._http = self._aiohttp.ClientSession(connector=connector)
        return self._http

    async def _keys(self) -> Keys:
        held = self._credentials
        if held is None or (isinstance(held, RefreshableCredentials) and held.refresh_needed()):
            # they may be asked for over the network, which the library does without an event loop
            return await asyncio.to_thread(self._load)
        return _frozen(self._location, held)

    def _load(self) -> Keys:
        with _loading(self._location):
            if self._credentials is None:
                self._credentials = self._session.get_credentials()
        return _frozen(self._location, self._credentials)

    def connections(self) -> ConnectionCounts:
        """Those that are open, as far as aiohttp's pool shows them."""
        connector = getattr(self._http, "connector", None)
        idle = sum(map(len, getattr(connector, "_conns", {}).values()))
        return ConnectionCounts(idle, len(getattr(connector, "_acquired", ())))

    async def close(self) -> None:
        """End the connections."""
        if self._http is not None:
            client, self._http = self._http, None
            await client.close()
