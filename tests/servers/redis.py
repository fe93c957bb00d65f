"""Redis servers of a test: real processes on free ports of 127.0.0.1, each in a folder of its own."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.servers.closing import Closing
from tests.servers.keeper import keep
from tests.servers.ports import free_port
from tests.servers.proxy import Proxy
from tests.servers.waiting import wait_until

MASTER = "mymaster"
"""The name under which Sentinel watches the primary."""
SLOTS = 16_384
PERSISTENCE = {
    "none": {"save": '""', "appendonly": "no"},
    "rdb": {"save": "3600 1", "appendonly": "no"},
    "aof": {"save": '""', "appendonly": "yes", "appendfsync": "always"},
}
QUICK = {
    "bind": "127.0.0.1",
    "daemonize": "no",
    "repl-diskless-sync-delay": "0",
    "repl-ping-replica-period": "1",
    "repl-backlog-size": "4mb",
    "databases": "4",
}


def _program(name: str, package: str) -> str:
    found = shutil.which(name)
    assert found, f"these tests start {name}, which is not installed: run as root: apt-get install {package}"
    return found


_HANDING_OVER = 6.0
"""Seconds after which Redis has given up to hand over."""


class RedisServer(Closing):
    """One `redis-server` (or `redis-sentinel`): started at once, ended by `close()` or `with`.

    Its configuration file is its memory: `promote` and `follow` write it anew, so that a restarted node is what it was.

    Args:
        folder: its own; is made.
        persistence: `none`, `rdb` (written at a plain stop) or `aof` (each write is on disk before it is acknowledged).
        follows: the port of the primary that it replicates.
        sentinel: whether it is a Sentinel.
        options: lines of its configuration by name.

    Attributes:
        port: where it listens.
    """

    def __init__(
        self,
        folder: Path,
        persistence: str = "none",
        follows: int | None = None,
        sentinel: bool = False,
        **options: str,
    ) -> None:
        self.folder = folder
        self._program = (
            _program("redis-sentinel", "redis-sentinel") if sentinel else _program("redis-server", "redis-server")
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._client: Any = None
        folder.mkdir(parents=True)
        wanted = {"bind": "127.0.0.1"} if sentinel else {**QUICK, **PERSISTENCE[persistence]}
        if follows is not None:
            wanted["replicaof"] = f"127.0.0.1 {follows}"
        wanted |= {name.replace("_", "-"): value for name, value in options.items()}
        for _ in range(20):
            self.port = free_port()
            text = "".join(
                f"{name} {value}\n" for name, value in {**wanted, "port": str(self.port), "dir": str(folder)}.items()
            )
            self._config.write_text(text)
            # somebody else may have taken the port meanwhile
            if self._try_start():
                return
        raise AssertionError(self._told)

    def __repr__(self) -> str:
        return f"<RedisServer {self.port}{'' if self.running else ', stopped'}>"

    @property
    def _config(self) -> Path:
        return self.folder / "server.conf"

    @property
    def _told(self) -> str:
        return f"{self._program} says:\n{(self.folder / 'told').read_text()[-2000:]}"

    def _try_start(self) -> bool:
        with (self.folder / "told").open("wb") as told:
            self._process = subprocess.Popen(
                [self._program, str(self._config)], stdin=subprocess.DEVNULL, stdout=told, stderr=told
            )
            keep(self._process)
        wait_until(lambda: not self.running or self._answers(), f"{self._program} on port {self.port} to start")
        return self.running

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith(b"+PONG")
        return False

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        """Its URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> Any:
        """A client that gives bytes; this object closes it."""
        if self._client is None:
            import redis

            self._client = redis.Redis(port=self.port, socket_timeout=10, socket_connect_timeout=5)
        return self._client

    def told(self, section: str) -> dict[str, Any]:
        """A section of INFO."""
        found: dict[str, Any] = self.client.info(section)
        return found

    @property
    def offset(self) -> int:
        """How far its history is: a primary's, or what a replica has of it."""
        told = self.told("replication")
        return int(told["master_repl_offset"] if told["role"] == "master" else told["slave_repl_offset"])

    @property
    def linked(self) -> bool:
        """Whether it is a replica that follows its primary now."""
        return self.told("replication").get("master_link_status") == "up"

    def wait_linked(self) -> None:
        """Until it follows its primary."""
        wait_until(lambda: self.linked, f"{self} to follow its primary")

    def wait_offset(self, offset: int) -> None:
        """Until it has that much of the history."""
        wait_until(lambda: self.offset >= offset, f"{self} to reach {offset}")

    def stop(self) -> None:
        """End it as an administrator would: it writes what it keeps."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it with `kill -9`."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._process.poll() is None:
            self._process.send_signal(how)
            if how is not signal.SIGKILL:
                self._process.send_signal(signal.SIGCONT)
            try:
                # it waits 10 s for replicas that are behind, and only then writes what it keeps
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def pause(self) -> None:
        """Stop its process in its tracks; connections stay, nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def unpause(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def start(self) -> None:
        """Start it on the port and with the files that it had."""
        assert not self.running
        assert self._try_start(), self._told

    def restart(self) -> None:
        """Stop it plainly, and start it with what it kept: all with `rdb` and `aof`, nothing with `none`."""
        self.stop()
        self.start()

    def empty(self) -> None:
        """Remove what it kept on disk; it must be stopped."""
        assert not self.running
        for file in self.folder.glob("*.rdb"):
            file.unlink()
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)

    def restart_empty(self) -> None:
        """Kill it, remove what it kept, and start it."""
        self.kill()
        self.empty()
        self.start()

    def promote(self) -> None:
        """Make it a primary, now."""
        self.client.execute_command("REPLICAOF", "NO", "ONE")
        self.client.config_rewrite()

    def come_back(self, follows: int) -> None:
        """Start it, stopped before, as a replica of whoever listens on a port: it is never a primary in between."""
        with self._config.open("a") as config:
            config.write(f"replicaof 127.0.0.1 {follows}\n")
        self.start()

    def follow(self, port: int) -> None:
        """Make it a replica of whoever listens on a port."""
        self.client.execute_command("REPLICAOF", "127.0.0.1", str(port))
        self.client.config_rewrite()

    def close(self) -> None:
        """End it for good."""
        self.kill()


class RedisReplicas(Closing):
    """A primary and its replicas, each fed through a proxy.

    Args:
        folder: for all of them.
        persistence: of all.
        replicas: how many.

    Attributes:
        primary: who is the primary now.
        replicas: the others.
        links: replica → the proxy between it and the primary; `hold()` there holds its replication back.
    """

    def __init__(self, folder: Path, persistence: str = "none", replicas: int = 2) -> None:
        with contextlib.ExitStack() as made:
            self.primary = made.enter_context(RedisServer(folder / "0", persistence))
            self.links: dict[RedisServer, Proxy] = {}
            self.replicas: list[RedisServer] = []
            for i in range(replicas):
                link = made.enter_context(Proxy(self.primary.port))
                replica = made.enter_context(RedisServer(folder / str(i + 1), persistence, follows=link.port))
                self.links[replica] = link
                self.replicas.append(replica)
            self.wait_level()
            self._all = made.pop_all()

    @property
    def nodes(self) -> list[RedisServer]:
        """All, the primary first."""
        return [self.primary, *self.replicas]

    @property
    def url(self) -> str:
        """The store's URL, with every node named."""
        others = ",".join(f"127.0.0.1:{replica.port}" for replica in self.replicas)
        return f"{self.primary.url}?replicas={others}"

    def hold(self) -> None:
        """Hold back all replication."""
        for link in self.links.values():
            link.hold()

    def resume(self) -> None:
        """Let replication go on."""
        for link in self.links.values():
            link.resume()

    def wait_level(self) -> None:
        """Until every replica follows and has what the primary has now."""
        _wait_level(self.primary, self.replicas)

    def fail_over(self, to: RedisServer) -> None:
        """Make a replica the primary, the other replicas its own; the old primary is left as it is, alive or dead."""
        to.promote()
        self.replicas = [replica for replica in self.replicas if replica is not to]
        self.links = {}
        self.primary = to
        for replica in self.replicas:
            if replica.running:
                replica.follow(self._link(replica).port)

    def come_back(self, node: RedisServer) -> None:
        """Start a primary of before, which is dead, as a replica."""
        node.come_back(self._link(node).port)
        self.replicas.append(node)

    def _link(self, replica: RedisServer) -> Proxy:
        self.links[replica] = self._all.enter_context(Proxy(self.primary.port))
        return self.links[replica]

    def close(self) -> None:
        """End all."""
        self._all.close()


class RedisSentinel(Closing):
    """A primary with replicas that one Sentinel watches: it promotes a replica within about two seconds.

    Attributes:
        nodes: the servers, the first primary at the start.
        sentinel: the Sentinel.
    """

    def __init__(self, folder: Path, replicas: int = 2) -> None:
        with contextlib.ExitStack() as made:
            first = made.enter_context(RedisServer(folder / "0"))
            others = [made.enter_context(RedisServer(folder / str(i + 1), follows=first.port)) for i in range(replicas)]
            self.nodes = [first, *others]
            _wait_level(first, others)
            self.sentinel = made.enter_context(RedisServer(folder / "sentinel", sentinel=True))
            self._watch(first.port)
            wait_until(lambda: self._known() == replicas, "Sentinel to see the replicas")
            self._all = made.pop_all()

    def _watch(self, port: int) -> None:
        run = self.sentinel.client.execute_command
        run("SENTINEL", "MONITOR", MASTER, "127.0.0.1", str(port), "1")
        for name, value in (("down-after-milliseconds", "300"), ("failover-timeout", "3000"), ("parallel-syncs", "2")):
            run("SENTINEL", "SET", MASTER, name, value)

    def _known(self) -> int:
        found = self.sentinel.client.sentinel_slaves(MASTER)
        return sum(not node["is_disconnected"] and not node["is_sdown"] for node in found)

    @property
    def url(self) -> str:
        """The store's URL."""
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{MASTER}/0"

    @property
    def primary(self) -> RedisServer:
        """Who is the primary, by Sentinel."""
        _, port = self.sentinel.client.sentinel_get_master_addr_by_name(MASTER)
        return next(node for node in self.nodes if node.port == port)

    def close(self) -> None:
        """End all."""
        self._all.close()


class RedisCluster(Closing):
    """A cluster of primaries that share the slots evenly, each with replicas where asked for.

    Attributes:
        shards: the primaries at the start.
        replicas: shard by shard, its replicas.
    """

    def __init__(self, folder: Path, shards: int = 3, replicas: int = 0) -> None:
        with contextlib.ExitStack() as made:
            self._folder = folder
            # where nobody can take over, a node that stands still on a loaded host is waited for
            self._timeout = 2 if replicas else 15
            nodes = [made.enter_context(self._node(folder / str(i))) for i in range(shards * (1 + replicas))]
            self.shards, rest = nodes[:shards], nodes[shards:]
            self.replicas = [rest[i * replicas : (i + 1) * replicas] for i in range(shards)]
            self._join(nodes)
            self._share()
            for shard, mine in zip(self.shards, self.replicas, strict=True):
                self._replicate(shard, mine)
            wait_until(lambda: all(map(self._well, nodes)), "every node to see the cluster whole")
            self._all = made.pop_all()

    def _node(self, folder: Path) -> RedisServer:
        options = {"cluster_enabled": "yes", "cluster_node_timeout": f"{self._timeout}000", "databases": "1"}
        return RedisServer(folder, cluster_port=str(free_port()), **options)

    def _join(self, nodes: Sequence[RedisServer]) -> None:
        first = nodes[0]
        bus = next(iter(first.client.config_get("cluster-port").values()))
        for epoch, node in enumerate(nodes, 1):
            node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", str(epoch))
        for node in nodes[1:]:
            node.client.execute_command("CLUSTER", "MEET", "127.0.0.1", str(first.port), _text(bus))

    def _share(self) -> None:
        count = len(self.shards)
        for i, shard in enumerate(self.shards):
            start, end = SLOTS * i // count, SLOTS * (i + 1) // count - 1
            shard.client.execute_command("CLUSTER", "ADDSLOTSRANGE", str(start), str(end))

    @staticmethod
    def _replicate(shard: RedisServer, replicas: Sequence[RedisServer]) -> None:
        name = _text(shard.client.execute_command("CLUSTER", "MYID"))
        for replica in replicas:
            wait_until(partial(_knows, replica, name), f"{replica} to meet {shard}")
            replica.client.execute_command("CLUSTER", "REPLICATE", name)
            replica.wait_linked()

    def _well(self, node: RedisServer) -> bool:
        told = _cluster_info(node)
        known = len(self.shards) + sum(map(len, self.replicas))
        return "cluster_state:ok" in told and f"cluster_known_nodes:{known}" in told

    @property
    def nodes(self) -> list[RedisServer]:
        """All that run, replicas too."""
        nodes = [*self.shards, *(replica for mine in self.replicas for replica in mine)]
        return [node for node in nodes if node.running]

    def hand_over(self, primary: RedisServer, heir: RedisServer) -> None:
        """Let a replica take over from its primary without a loss; both know of it then.

        Redis gives up after five seconds where nodes are slow: it is asked again. Until the old primary has heard of
        the new one it takes writes too, which are lost.
        """
        heir.wait_offset(primary.offset)

        def taken_over() -> bool:
            return bool(heir.told("replication")["role"] == "master")

        asked = 0.0

        def done() -> bool:
            nonlocal asked
            if not taken_over() and time.monotonic() - asked > _HANDING_OVER:
                asked = time.monotonic()
                heir.client.execute_command("CLUSTER", "FAILOVER")
            return taken_over()

        wait_until(done, f"{heir} to take over from {primary}", 60)
        wait_until(lambda: primary.told("replication")["role"] == "slave", f"{primary} to follow {heir}", 60)
        self.wait_agreed(heir)

    def owner(self, slot: int) -> RedisServer:
        """The primary that has a slot."""
        for start, end, (_, port, *_), *_ in self.nodes[0].client.execute_command("CLUSTER", "SLOTS"):
            if start <= slot <= end:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"slot {slot} has no owner")

    def slots(self, node: RedisServer) -> list[int]:
        """The slots of a primary."""
        found = node.client.execute_command("CLUSTER", "SLOTS")
        return [s for start, end, (_, port, *_), *_ in found if port == node.port for s in range(start, end + 1)]

    def begin_move(self, slot: int, to: RedisServer) -> None:
        """Put a slot on its way: its keys stay where they are until `carry` or `end_move`."""
        source = self.owner(slot)
        _setslot(to, slot, "IMPORTING", _id(source))
        _setslot(source, slot, "MIGRATING", _id(to))

    def carry(self, to: RedisServer, *keys: bytes) -> None:
        """Take some keys of a slot that is on its way to where it goes."""
        for key in keys:
            source = self.owner(int(to.client.execute_command("CLUSTER", "KEYSLOT", key)))
            source.client.execute_command("MIGRATE", "127.0.0.1", to.port, key, 0, 5000)

    def end_move(self, slot: int, to: RedisServer) -> None:
        """Take what keys are left, and give a slot to another primary."""
        source = self.owner(slot)
        while keys := source.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000):
            source.client.execute_command("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
        _setslot(to, slot, "NODE", _id(to))
        _setslot(source, slot, "NODE", _id(to))
        from redis import ResponseError

        for node in self.shards:
            if node.running:
                try:
                    _setslot(node, slot, "NODE", _id(to))
                except ResponseError as error:
                    # who has lost its last slot is a replica from then on, at any moment, and hears of it from others
                    if "only with masters" not in str(error):
                        raise

    def move(self, slots: Sequence[int], to: RedisServer) -> None:
        """Move slots with their keys, one after the other, as `redis-cli --cluster reshard` does."""
        self.wait_agreed()
        for slot in slots:
            self.begin_move(slot, to)
            self.end_move(slot, to)

    def wait_agreed(self, *primaries: RedisServer) -> None:
        """Wait, a second at most where nothing is slow, until every node has heard of these primaries' latest epochs.

        A slot that is given back before that may end up with nobody: the one that takes it does not raise its epoch
        above one that it has not heard of, and believes an older message of the other, which has given it back.
        """

        def agreed() -> bool:
            epochs = {
                _id(node): _cluster_info(node).partition("cluster_my_epoch:")[2].split()[0]
                for node in primaries or self.shards
            }
            for node in self.nodes:
                lines = map(str.split, _text(node.client.execute_command("CLUSTER", "NODES")).splitlines())
                known = {line[0]: line[6] for line in lines}
                if not epochs.items() <= known.items():
                    return False
            return True

        wait_until(agreed, "every node to know the latest epochs", 60)

    def move_all(self, source: RedisServer, to: RedisServer) -> None:
        """Move every slot of a primary: those with keys one by one, the others at once."""
        slots = self.slots(source)
        with source.client.pipeline(transaction=False) as counts:
            for slot in slots:
                counts.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot)
            full = [slot for slot, count in zip(slots, counts.execute(), strict=True) if count]
        self.move(full, to)
        for node in (to, source, *self.shards):
            with node.client.pipeline(transaction=False) as moves:
                for slot in set(slots) - set(full):
                    moves.execute_command("CLUSTER", "SETSLOT", slot, "NODE", _id(to))
                # who has lost its last slot is a replica from then on, and takes no more
                moves.execute(raise_on_error=False)

    def add(self) -> RedisServer:
        """A new primary without slots."""
        node = self._all.enter_context(self._node(self._folder / f"added{len(self.shards)}"))
        bus = next(iter(self.shards[0].client.config_get("cluster-port").values()))
        node.client.execute_command("CLUSTER", "MEET", "127.0.0.1", str(self.shards[0].port), _text(bus))
        wait_until(lambda: all(_knows(each, _id(node)) for each in self.nodes), f"every node to meet {node}")
        wait_until(lambda: all(_knows(node, _id(each)) for each in self.nodes), f"{node} to meet every node")
        wait_until(lambda: "cluster_state:ok" in _cluster_info(node), f"{node} to see the cluster whole")
        self.shards.append(node)
        self.replicas.append([])
        return node

    def remove(self, node: RedisServer) -> None:
        """End a primary that has no slots any more."""
        name = _id(node)
        self.replicas.pop(self.shards.index(node))
        self.shards.remove(node)
        for each in self.nodes:
            each.client.execute_command("CLUSTER", "FORGET", name)
        node.close()

    @property
    def url(self) -> str:
        """The store's URL, with every shard named."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{shard.port}" for shard in self.shards)

    def close(self) -> None:
        """End all."""
        self._all.close()


def _wait_level(primary: RedisServer, replicas: Sequence[RedisServer]) -> None:
    # a replica that has its copy hears of nothing until the primary has heard of it again
    primary.client.publish("level", "")
    offset = primary.offset
    for replica in replicas:
        replica.wait_linked()
        replica.wait_offset(offset)


def _knows(node: RedisServer, name: str) -> bool:
    return name in str(node.client.execute_command("CLUSTER", "NODES"))


def _id(node: RedisServer) -> str:
    return _text(node.client.execute_command("CLUSTER", "MYID"))


def _setslot(node: RedisServer, slot: int, *state: str) -> None:
    node.client.execute_command("CLUSTER", "SETSLOT", slot, *state)


def _cluster_info(node: RedisServer) -> str:
    return _text(node.client.execute_command("CLUSTER", "INFO"))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server alone; tests of a session share it, so that each cleans it or takes keys of its own."""
    with RedisServer(tmp_path_factory.mktemp("redis") / "0") as server:
        yield server


@pytest.fixture(scope="session")
def redis_replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisReplicas]:
    """A primary with two replicas, shared: for tests that leave it as it was (a test that fails over makes its own)."""
    with RedisReplicas(tmp_path_factory.mktemp("redis")) as replicas:
        yield replicas


@pytest.fixture(scope="session")
def redis_sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisSentinel]:
    """A primary with two replicas under a Sentinel, shared; ask it who is the primary."""
    with RedisSentinel(tmp_path_factory.mktemp("redis")) as watched:
        yield watched


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A cluster of three shards, shared."""
    with RedisCluster(tmp_path_factory.mktemp("redis")) as cluster:
        yield cluster
