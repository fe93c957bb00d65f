"""Requests made from the server's own OpenAPI document, right and wrong ones: answers are as it says, never a 500."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import headwater as hw
from headwater.testing import SCALE
from tests.servers.headwater_server import HeadwaterServer

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadwaterServer]:
    folder: Path = tmp_path_factory.mktemp("fuzzed")
    user = hw.Entity("user", join_keys={"user": hw.Int64})
    view = hw.FeatureView(
        "events",
        entity=user,
        source=hw.PushSource(event_time="at"),
        features=[hw.Feature("n", hw.Int64), hw.Feature("tags", hw.Array(hw.String)), hw.Feature("raw", hw.Bytes)],
    )
    with hw.FeatureStore(folder) as store:
        store.apply([view, hw.FeatureService("model", [view["n"]])])
        store.write("events", [{"user": 1, "at": AT, "n": 10, "tags": ["a"], "raw": b""}])
    with HeadwaterServer(folder) as server:
        yield server
        read = {"features": ["events:n"], "entities": {"user": [2]}}
        assert server("POST", "/v1/features:read", read)[0] == 200


@pytest.fixture(scope="module")
def documented(server: HeadwaterServer) -> Any:
    status, document, _ = server("GET", "/openapi.json")
    assert status == 200
    return schemathesis.openapi.from_dict(document)


@pytest.mark.parametrize("wrong", [False, True], ids=["right", "wrong"])
def test_answers_are_as_documented(documented: Any, server: HeadwaterServer, wrong: bool) -> None:
    mode = GenerationMode.NEGATIVE if wrong else GenerationMode.POSITIVE
    seen = set()
    for found in documented.get_all_operations():
        operation = found.ok()
        requests = operation.as_strategy(generation_mode=mode)

        @settings(
            max_examples=(8 if operation.method == "post" else 3) * SCALE, suppress_health_check=list(HealthCheck)
        )
        @given(requests)
        def answers(case: schemathesis.Case) -> None:
            response = case.call(base_url=f"http://127.0.0.1:{server.port}", timeout=20)
            case.validate_response(response, checks=CHECKS)
            seen.add((case.method, case.path))

        with suppress(Unsatisfiable):  # a request without parameters cannot be wrong
            answers()
    assert len(seen) >= (3 if wrong else 10)
