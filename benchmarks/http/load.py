"""Load on an HTTP server: as much as it answers (wrk), and at a fixed rate, counted from when a request was due."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import uvloop

_Free: TypeAlias = "asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]"
SCRIPT = Path(__file__).with_name("wrk.lua")
CONNECTIONS = 8
_OPEN_CONNECTIONS = 64


@dataclass(frozen=True)
class Measured:
    """What a load met.

    Attributes:
        rate: answers a second.
        p50, p99, p999: milliseconds.
        errors: answers that were not 200, and connections that broke.
    """

    rate: float
    p50: float
    p99: float
    p999: float
    errors: int


def most(url: str, bodies: Sequence[str], seconds: float, scratch: Path, key: str = "") -> Measured:
    """As many requests as eight connections get answered."""
    file = scratch / "bodies"
    file.write_text("\n".join(bodies) + "\n")
    line = [
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{max(1, round(seconds))}s",
        "-s",
        str(SCRIPT),
        url,
        "--",
        str(file),
        key,
    ]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    rate = found["requests"] / found["seconds"]
    return Measured(rate, found["p50"], found["p99"], found["p999"], found["errors"])


def steady(port: int, path: str, bodies: Sequence[str], rate: float, seconds: float, key: str = "") -> Measured:
    """Requests at a fixed rate: one that had to wait for its turn counts from when it was due."""
    return uvloop.run(_Steady(port, path, bodies, key).run(rate, seconds))


class _Steady:
    def __init__(self, port: int, path: str, bodies: Sequence[str], key: str) -> None:
        authorization = f"Authorization: Bearer {key}\r\n" if key else ""
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{authorization}"
        self._requests = [f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode() for body in bodies]
        self._port = port
        self._waits: list[float] = []
        self._errors = 0

    async def run(self, rate: float, seconds: float) -> Measured:
        free: _Free = asyncio.Queue()
        for _ in range(_OPEN_CONNECTIONS):
            free.put_nowait(await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 22))
        sending, began, count = set(), time.perf_counter(), int(rate * seconds)
        for n in range(count):
            due = began + n / rate
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(self._one(free, self._requests[n % len(self._requests)], due))
            sending.add(task)
            task.add_done_callback(sending.discard)
        while sending:
            await asyncio.wait(sending)
        took = time.perf_counter() - began
        waits = sorted(self._waits)
        p50, p99, p999 = (1e3 * waits[min(len(waits) - 1, int(share * len(waits)))] for share in (0.5, 0.99, 0.999))
        return Measured(len(waits) / took, p50, p99, p999, self._errors)

    async def _one(self, free: _Free, data: bytes, due: float) -> None:
        reader, writer = await free.get()
        writer.write(data)
        head = await reader.readuntil(b"\r\n\r\n")
        lower = head.lower()
        if b"content-length: " in lower:
            await reader.readexactly(int(lower.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        free.put_nowait((reader, writer))
        self._waits.append(time.perf_counter() - due)
        self._errors += not head.startswith(b"HTTP/1.1 200")
