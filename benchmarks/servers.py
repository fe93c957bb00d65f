"""Servers that benchmarks start: real processes on free ports of 127.0.0.1, ended with their `with` block."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.dynamodb import DynamoDBServer
from tests.servers.redis import RedisServer


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """A Redis of its own that keeps nothing on disk."""
    with tempfile.TemporaryDirectory() as scratch, RedisServer(Path(scratch) / "redis") as server:
        yield server


@contextmanager
def dynamodb_server() -> Iterator[DynamoDBServer]:
    """moto's DynamoDB: an emulator."""
    with tempfile.TemporaryDirectory() as scratch, DynamoDBServer(Path(scratch)) as server:
        yield server


def used_memory(server: RedisServer) -> int:
    """Bytes that its data takes, overhead included."""
    return int(server.told("memory")["used_memory"])


def calls(server: RedisServer, command: str) -> int:
    """How often a command was run so far."""
    return int(server.told("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


def keys_read(server: RedisServer) -> int:
    """How many keys were looked up so far."""
    stats = server.told("stats")
    return int(stats["keyspace_hits"]) + int(stats["keyspace_misses"])


def core_seconds(server: RedisServer) -> float:
    """Seconds of a core that it used so far."""
    cpu = server.told("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])
