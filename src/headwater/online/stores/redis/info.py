"""What a Redis server says of itself in INFO: its fields, its replicas, and what is wrong with its settings."""

from __future__ import annotations

from collections.abc import Mapping

from headwater.online.stores.redis.url import Address


def info(text: bytes) -> dict[str, str]:
    """The fields of an INFO answer."""
    fields = {}
    for line in text.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields[name] = value
    return fields


def followers(replication: bytes) -> tuple[Address, ...]:
    """The replicas that a primary names."""
    found = []
    for name, value in info(replication).items():
        if name.startswith("slave") and name[5:].isdigit():
            replica = dict(part.partition("=")[::2] for part in value.split(","))
            found.append((replica["ip"], int(replica["port"])))
    return tuple(found)


def eviction_policy(memory: Mapping[str, str]) -> str:
    """What a server does when its memory is full, `noeviction` where that is not bounded."""
    return "noeviction" if memory.get("maxmemory", "0") == "0" else memory.get("maxmemory_policy", "noeviction")


def warnings_of(address: Address, memory: Mapping[str, str], persistence: Mapping[str, str]) -> list[str]:
    """What is wrong with a server's settings for a store that should keep its rows."""
    found = []
    policy = eviction_policy(memory)
    if policy != "noeviction":
        found.append(f"{address[0]}:{address[1]} evicts rows when memory is full (maxmemory-policy {policy})")
    if persistence.get("aof_enabled") == "0" and persistence.get("rdb_saves", "0") == "0":
        found.append(
            f"{address[0]}:{address[1]} persists nothing (no AOF, no snapshot since it started): turn AOF on, else "
            "a restart loses the rows until the next 'headwater materialize'"
        )
    if persistence.get("rdb_last_bgsave_status") == "err" or persistence.get("aof_last_write_status") == "err":
        found.append(f"{address[0]}:{address[1]} could not write to its disk")
    return found
