"""Connections to a server for threads: a pool, which a fork's child abandons; the only file that imports urllib3."""

from __future__ import annotations

import ssl
import time
from typing import Any

import urllib3

from headwater import forks
from headwater.client.addresses import ServerAddress
from headwater.client.calls import SOME_TIME, Call, Reply
from headwater.errors import Unavailable, was_closed


class Connections(forks.OfOneProcess):
    """A pool of connections to one server; safe to use from several threads, and on both sides of a fork.

    Args:
        address: of the server.
        headers: of every request.
        timeout: seconds that a connection may take, and an answer where the request does not say.
        tls: settings of TLS; None: the system's.
        most: connections that are kept.
    """

    def __init__(
        self, address: ServerAddress, headers: dict[str, str], timeout: float, tls: ssl.SSLContext | None, most: int
    ) -> None:
        self._address, self._headers, self._timeout, self._tls, self._most = address, headers, timeout, tls, most
        self._closed = False
        self._pool: Any = None
        self._lock = forks.lock()
        forks.after_fork(self, Connections._in_child)

    def _in_child(self) -> None:
        # to close the parent's connections would end its TLS sessions
        forks.abandon(self._pool)
        self._pool = None

    def _opened(self) -> Any:
        with self._lock:
            if self._closed:
                raise was_closed(f"this client of {self._address} is closed")
            if self._pool is None:
                address = self._address
                if address.scheme == "https":
                    self._pool = urllib3.HTTPSConnectionPool(
                        address.host, address.port, maxsize=self._most, ssl_context=self._tls
                    )
                else:
                    self._pool = urllib3.HTTPConnectionPool(address.host, address.port, maxsize=self._most)
            return self._pool

    def send(self, call: Call) -> Reply:
        """The reply to a request.

        Raises:
            Unavailable: there was none, or none in time.
        """
        pool = self._opened()
        timeout = call.timeout or self._timeout
        until = time.monotonic() + timeout
        try:
            answer = pool.urlopen(
                call.method,
                self._address.path + call.path,
                body=call.body or None,
                headers={**self._headers, **call.headers},
                timeout=urllib3.Timeout(connect=min(timeout, self._timeout), total=timeout),
                preload_content=False,
                retries=False,
                redirect=False,
                assert_same_host=False,
            )
            body = _body(answer, until)
            return Reply(answer.status, {name.lower(): value for name, value in answer.headers.items()}, body)
        except (urllib3.exceptions.HTTPError, OSError) as bad:
            late = isinstance(bad, urllib3.exceptions.TimeoutError)
            # which is one of those by its class
            if late and not isinstance(bad, urllib3.exceptions.NewConnectionError):
                raise Unavailable(f"{self._address} gave no answer within {timeout:g} s") from bad
            raise Unavailable(f"cannot reach {self._address}: {bad}") from bad

    def close(self) -> None:
        """End the connections; twice is a no-op."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()


def _body(answer: Any, until: float) -> bytes:
    """The body of an answer; urllib3's own bounds hold for each part that comes, however small it is.

    Raises:
        ReadTimeoutError: it is not there in time.
    """
    parts: list[bytes] = []
    try:
        while part := answer.read1():
            parts.append(part)
            left = until - time.monotonic()
            if left <= 0 and answer.length_remaining != 0:
                raise urllib3.exceptions.ReadTimeoutError(answer._pool, None, "an answer that comes too slowly")
            if answer.connection is not None and answer.connection.sock is not None:
                answer.connection.sock.settimeout(max(left, SOME_TIME))
    except BaseException:
        answer.close()
        raise
    answer.release_conn()
    return parts[0] if len(parts) == 1 else b"".join(parts)
