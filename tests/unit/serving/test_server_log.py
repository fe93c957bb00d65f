"""What uvicorn says is in the server's log, in its form, and cannot flood it."""

from __future__ import annotations

import io
import json
import logging

from headwater.serving.logs import Log
from headwater.serving.metrics import Metrics
from headwater.serving.server_log import EVERY, INVALID, ServerLog


def test_requests_that_are_not_http_are_counted_and_few_lines_are_written() -> None:
    stream, now, metrics = io.StringIO(), [0.0], Metrics()
    handler = ServerLog(Log("json", stream=stream), metrics, lambda: now[0])
    logger = logging.Logger("uvicorn.error")
    logger.addHandler(handler)
    for _ in range(1_000):
        logger.warning(INVALID)
    now[0] += EVERY
    logger.warning(INVALID)
    logger.info("Started server process [%d]", 1)
    try:
        raise ValueError("a secret")
    except ValueError:
        logger.exception("Exception in ASGI application\n")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["level"], line["event"], line["count"]) for line in lines] == [
        ("warning", "an invalid HTTP request", 1),
        ("warning", "an invalid HTTP request", 1_000),
        ("error", "Exception in ASGI application", 1),
    ]
    assert lines[-1]["error"] == "ValueError" and "secret" not in stream.getvalue()
    assert next(iter(metrics.slot.values[metrics._refused["InvalidHTTP"] :])) == 1_001
