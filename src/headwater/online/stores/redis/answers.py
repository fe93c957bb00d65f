"""Commands and answers of a Redis server: options of a connection, what may be repeated, errors in our words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from headwater.errors import FormatError, StorageFull, StoreError, Unavailable
from headwater.online.base import too_late
from headwater.online.guard import NEWER_ROW
from headwater.online.stores.redis.errors import Moved, NotPrimary
from headwater.online.stores.redis.scripts import LATE, NEWER
from headwater.online.stores.redis.url import Address, RedisLocation

Command = tuple[Any, ...]
AWAY = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ReadOnlyError,
    OSError,
)
_NOT_NOW_ERRORS = (redis.exceptions.ClusterDownError, redis.exceptions.MasterDownError)
_NOT_NOW = ("MASTERDOWN", "LOADING", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "BUSY")


def connection_options(location: RedisLocation, sentinel: bool) -> dict[str, Any]:
    """What connections are made with."""
    user = location.sentinel_user if sentinel else location.user
    password = location.sentinel_password if sentinel else location.password
    options: dict[str, Any] = {
        "db": 0 if sentinel else location.db,
        "username": user or None,
        "password": password or None,
        "socket_timeout": location.timeout,
        "socket_connect_timeout": location.connect_timeout,
        "protocol": 2,
    }
    if location.tls:
        options |= {
            "ssl_cert_reqs": "required" if location.verify else "none",
            "ssl_check_hostname": location.verify,
            "ssl_ca_certs": location.ca or None,
            "ssl_certfile": location.cert or None,
            "ssl_keyfile": location.key or None,
        }
    return options


def _elsewhere(bad: redis.exceptions.ResponseError) -> Exception:
    """What a node of a cluster says of another one: older clients have classes for it in their cluster's part alone."""
    kind, _, rest = str(bad).partition(" ")
    if kind == "ASK":
        return redis.exceptions.AskError(rest)
    if kind == "MOVED":
        return redis.exceptions.MovedError(rest)
    return redis.exceptions.TryAgainError(str(bad)) if kind == "TRYAGAIN" else bad


def translated(bad: Exception, address: Address) -> Exception:
    """An error of the client or the server in our words."""
    where = f"redis {address[0]}:{address[1]}"
    if type(bad) is redis.exceptions.ResponseError:
        bad = _elsewhere(bad)
    text = str(bad)
    if isinstance(bad, redis.exceptions.AuthenticationError):
        return StoreError(f"{where}: {text.removesuffix('.')}; check user and password in [online] url")
    if isinstance(bad, redis.exceptions.AskError):
        # of redis-py's classes MOVED is a kind of ASK
        asking = not isinstance(bad, redis.exceptions.MovedError)
        # a node that does not know another one's host names none: it is its own
        return Moved(f"{where}: slot {text} is elsewhere", (bad.host or address[0], bad.port), asking)
    if isinstance(bad, redis.exceptions.TryAgainError):
        return Moved(f"{where}: {text}")
    if isinstance(bad, redis.exceptions.OutOfMemoryError) or text.startswith("OOM"):
        return StorageFull(f"{where}: {text}; raise maxmemory")
    if NEWER in text:
        return FormatError(NEWER_ROW)
    if LATE in text:
        return too_late(where)
    if isinstance(bad, redis.exceptions.ReadOnlyError) or "READONLY" in text or "read only replica" in text:
        return NotPrimary(f"{where}: {text}")
    if isinstance(bad, (*AWAY, *_NOT_NOW_ERRORS)) or text.startswith(_NOT_NOW):
        return Unavailable(f"{where}: {text or type(bad).__name__}")
    return StoreError(f"{where}: {text or type(bad).__name__}")


def checked(answers: list[Any], address: Address, each: bool = False) -> list[Any]:
    """Answers, of which none is an error; with `each` those of commands that belong elsewhere are, in their places.

    Raises:
        StoreError: the first error, translated.
    """
    for i, answer in enumerate(answers):
        if isinstance(answer, Exception):
            bad = translated(answer, address)
            if not each or not isinstance(bad, Moved):
                raise bad from answer
            answers[i] = bad
    return answers


_ASKING = frozenset(
    {"GET", "MGET", "INFO", "ROLE", "HMGET", "HLEN", "SCAN", "SENTINEL", "CLUSTER", "READONLY", "READWRITE", "ASKING"}
)


def repeatable(commands: Sequence[Command]) -> bool:
    """Whether to send commands twice is the same as once."""
    return all(command[0] in _ASKING for command in commands)
