"""What uvicorn says is in the server's log, in its form, and cannot flood it."""

from __future__ import annotations

import io
import json
import logging

from headwater.serving.logs import Log
from headwater.serving.server_log import EVERY, INVALID, ServerLog


def test_of_requests_that_are_not_http_few_lines_are_written() -> None:
    stream, now = io.StringIO(), [0.0]
    handler = ServerLog(Log("json", stream=stream), lambda: now[0])
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
