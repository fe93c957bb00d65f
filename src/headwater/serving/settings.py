"""What a server is told: where it listens, and the bounds of a request."""

from __future__ import annotations

from dataclasses import dataclass


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
        body_seconds: how long a body may take to arrive.
        log_form: `json` or `text`.
        log_level: `error`, `warning` or `info` (a line for each request).
        hosts: names by which it may be asked, of the Host header; none: any.
        grace: seconds that requests under way are given when the server stops.
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
    body_seconds: float = 10.0
    log_form: str = "text"
    log_level: str = "warning"
    hosts: tuple[str, ...] = ()
    grace: float = 10.0
