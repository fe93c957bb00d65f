"""The requests of a worker: how many are under way, their ids, counts, log lines and errors, whichever way answers."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Mapping

from headwater.errors import HeadwaterError
from headwater.serving.access import KeyRing
from headwater.serving.answers import Answer, Refused, other, problem_answer
from headwater.serving.bodies import Bodies
from headwater.serving.limits import KeyLimits
from headwater.serving.logs import Log
from headwater.serving.metrics import Metrics
from headwater.serving.settings import ServerSettings
from headwater.wire.problems import Problem, problem_of

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class Requests:
    """What a worker answers now, and what every way to answer does.

    Args:
        settings: bounds.
        keys: the API keys; None: requests need none.
        log: takes a line for each event.
        metrics: counts what is answered.
        bodies: those of requests, on their way among them.

    Attributes:
        under_way: how many requests are being answered.
        draining: whether the server is about to stop: what comes is refused, what is under way goes on.
        limits: of API keys.
    """

    def __init__(
        self, settings: ServerSettings, keys: KeyRing | None, log: Log, metrics: Metrics, bodies: Bodies
    ) -> None:
        self.settings, self.keys, self.log, self.metrics, self.bodies = settings, keys, log, metrics, bodies
        self.under_way = 0
        self.draining = False
        share = settings.rate / settings.workers
        self.limits = KeyLimits(share, settings.most_at_once_per_key, time.monotonic)
        # a worker's own, so that ids of several do not meet
        self._ids = map(f"{secrets.token_hex(6)}-{{:x}}".format, itertools.count())

    def given_id(self, headers: Mapping[bytes, bytes]) -> bytes | None:
        """The id that a request came with; None where it has none, or none that can be sent back."""
        given = headers.get(b"headwater-request-id")
        return given if given and _REQUEST_ID.fullmatch(given) else None

    def new_id(self) -> bytes:
        """An id of a request."""
        return next(self._ids).encode()

    @property
    def has_room(self) -> bool:
        """Whether one more request may be answered now."""
        under_way, most = self.under_way, self.settings.most_at_once
        return not self.draining and (under_way < most or under_way - self.bodies.arriving < most)

    @property
    def too_many(self) -> bool:
        """Whether more requests are being answered than may be, the one that asks among them."""
        return self.under_way - self.bodies.arriving > self.settings.most_at_once

    def begins(self) -> None:
        """Count a request that comes; `ended` or `never_began` follows."""
        self.under_way += 1
        self.metrics.began()

    def never_began(self) -> None:
        """Forget a request that is begun once more."""
        self.under_way -= 1
        self.metrics.never_began()

    def ended(self, method: str, route: str, status: int, began: float, request_id: bytes | None) -> None:
        """Count and log a request that was answered.

        Args:
            method: HTTP's.
            route: as `Routes.name_of` has it.
            status: of the answer; 0: there is none, since the client went away.
            began: when it came, by `time.perf_counter()`.
            request_id: its id.
        """
        self.under_way -= 1
        took = time.perf_counter() - began
        self.metrics.ended(route, status, took)
        if status and self.log.requests:
            fields = {"status": status, "ms": round(1e3 * took, 3), "request_id": (request_id or b"").decode()}
            self.log.info("request", method=method, route=route, **fields)

    def failed(self, bad: Exception, route: str, request_id: bytes) -> Answer:
        """The answer to a request that met an error, which is counted; one of ours is logged."""
        if isinstance(bad, Refused):
            problem = bad.problem
        elif isinstance(bad, HeadwaterError):
            problem = problem_of(bad)
        else:
            self.log.failure("request failed", bad, route=route, request_id=request_id.decode())
            detail = "this is a bug in headwater; the server's log has more under this request id"
            problem = Problem(500, "InternalError", detail)
        return self._refused(problem, request_id)

    def _refused(self, problem: Problem, request_id: bytes) -> Answer:
        self.metrics.refused(problem.name)
        return problem_answer(problem, request_id.decode())

    def refusal(self, problem: Problem) -> tuple[Answer, bytes]:
        """The answer to what is not a whole request, counted as other refusals are; and its id."""
        request_id = self.new_id()
        return self._refused(problem, request_id), request_id

    def check_host(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse names that are not the server's: a page in a browser may have made one stand for this host."""
        if not self.settings.hosts:
            return
        name = headers.get(b"host", b"").decode("latin-1")
        host, _, _ = name.rpartition(":")
        if host and not name.endswith("]"):
            name = host
        if name not in self.settings.hosts and name.lower() not in self.settings.hosts:
            raise other(421, "WrongHost", "the Host header does not name this server")
