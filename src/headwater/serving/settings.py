"""How a server behaves: where it listens, and the bounds of a request."""

from __future__ import annotations

from dataclasses import dataclass

from headwater.config import Settings
from headwater.serving.access import is_loopback

_LOCAL = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class ServerSettings:
    """How a server behaves.

    Attributes:
        host: the address it listens on.
        port: its port; 0: a free one.
        workers: how many processes answer.
        keys: whether requests need an API key.
        deadline: seconds a request may take, reads that ask for less aside.
        most_bytes: of a request's body.
        most_entities: of a read.
        most_rows: of a write or delete.
        most_at_once: requests under way in one worker; the next ones are refused with 503.
        most_at_once_per_key: how many of them may be one API key's: the next ones are refused with 429; 0: all.
        rate: requests a second of one API key over all workers, of which each grants its share; 0: any number.
        body_seconds: how long a body may take to arrive.
        log_form: `json` or `text`.
        log_level: `error`, `warning` or `info` (a line for each request).
        hosts: names by which it may be asked, of the Host header; none: any.
        grace: seconds that requests under way are given when the server stops.
        certificate, private_key: PEM files for TLS; empty: none.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    keys: bool = False
    deadline: float = 2.0
    most_bytes: int = 16 * 2**20
    most_entities: int = 10_000
    most_rows: int = 100_000
    most_at_once: int = 256
    most_at_once_per_key: int = 128
    rate: int = 0
    body_seconds: float = 10.0
    log_form: str = "text"
    log_level: str = "warning"
    hosts: tuple[str, ...] = ()
    grace: float = 10.0
    certificate: str = ""
    private_key: str = ""

    @property
    def scheme(self) -> str:
        """`https` or `http`."""
        return "https" if self.certificate else "http"


def server_settings(settings: Settings, host: str) -> ServerSettings:
    """A server with the bounds that a project's settings have.

    Args:
        settings: the project's.
        host: the address it listens on; at a loopback address it may be asked by such names alone, and those given.
    """
    local = (*_LOCAL, host.lower()) if is_loopback(host) else ()
    return ServerSettings(
        host=host,
        deadline=settings.server_deadline.total_seconds(),
        most_bytes=settings.server_body,
        most_entities=settings.server_entities,
        most_rows=settings.server_rows,
        most_at_once=settings.server_in_flight,
        most_at_once_per_key=settings.server_in_flight_per_key,
        rate=settings.server_rate,
        body_seconds=settings.server_body_timeout.total_seconds(),
        grace=settings.server_grace.total_seconds(),
        hosts=(*local, *settings.server_hosts),
    )
