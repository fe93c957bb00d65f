"""Connections to a server for event loops, a pool for each, which ends with it; the only file that imports aiohttp."""

from __future__ import annotations

import ssl
from typing import Any

import aiohttp

from headwater import forks
from headwater.client.addresses import ServerAddress
from headwater.client.calls import Call, Reply
from headwater.errors import Unavailable, was_closed
from headwater.event_loops import PerLoop
from headwater.online.session import MOST_CHARACTERS


class AsyncConnections(forks.OfOneProcess):
    """Pools of connections to one server, one for each event loop; a child of a fork has none.

    Args:
        address: of the server.
        headers: of every request.
        timeout: seconds that a connection may take, and an answer where the request does not say.
        tls: settings of TLS; None: the system's.
        most: connections of a loop.
    """

    def __init__(
        self, address: ServerAddress, headers: dict[str, str], timeout: float, tls: ssl.SSLContext | None, most: int
    ) -> None:
        self._address, self._headers, self._timeout, self._tls, self._most = address, headers, timeout, tls, most
        self._closed = False
        self._url = str(address)
        self._pools: PerLoop[Any] = PerLoop(self._open, aiohttp.ClientSession.close)

    def _open(self) -> Any:
        tls = self._tls if self._tls is not None else True
        connector = aiohttp.TCPConnector(limit=self._most, ssl=tls)
        return aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            # a session's token is longer than aiohttp allows by itself where a store has a hundred shards
            max_field_size=2 * MOST_CHARACTERS,
        )

    async def send(self, call: Call) -> Reply:
        """The reply to a request.

        Raises:
            Unavailable: there was none, or none in time.
        """
        if self._closed:
            raise was_closed(f"this client of {self._address} is closed")
        timeout = call.timeout or self._timeout
        try:
            async with self._pools.get().request(
                call.method,
                self._url + call.path,
                data=call.body or None,
                headers=call.headers,
                timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, self._timeout)),
                allow_redirects=False,
            ) as answer:
                body = await answer.read()
                return Reply(answer.status, {name.lower(): value for name, value in answer.headers.items()}, body)
        except TimeoutError as bad:
            raise Unavailable(f"{self._address} gave no answer within {timeout:g} s") from bad
        except (aiohttp.ClientError, OSError) as bad:
            raise Unavailable(f"cannot reach {self._address}: {bad}") from bad

    async def close(self) -> None:
        """End the connections of every loop; twice is a no-op."""
        self._closed = True
        await self._pools.close()
