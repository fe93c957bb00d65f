"""The files in `deploy/`: well-formed, and of the metrics, options and routes that there are."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import headwater as hw
from headwater.config import load_settings
from headwater.serving.exposition import exposition
from headwater.serving.metrics import FAMILIES, Metrics

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ENDINGS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def documents(file: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / file).read_text()))


@pytest.fixture(scope="module")
def metrics() -> dict[str, set[str]]:
    """Every metric that a server can have, with its labels."""
    known = {
        family.name + ending: {*family.labels, *({"le"} if ending == "_bucket" else ())}
        for family in FAMILIES.values()
        for ending in ENDINGS[family.kind]
    }
    user = hw.Entity("user", join_keys={"user": hw.Int64})
    view = hw.FeatureView(
        "v",
        entity=user,
        source=hw.PushSource(event_time="at"),
        features=[hw.Feature("x", hw.Int64)],
        freshness_sla="1h",
    )
    with hw.FeatureStore.in_memory([view]) as store:
        store.write("v", [{"user": 1, "at": hw.clock.system_clock(), "x": 1}])
        store.materialize()
        text, _ = exposition(Metrics().memory, store.status(), "1", "")
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            known.setdefault(sample.name, set()).update(sample.labels)
    # what is shown only where there is such a thing
    return known | {"headwater_refresh_oldest_seconds": set(), "up": set()}


def selectors(node: Any) -> Iterator[promql_parser.VectorSelector]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("expr", "lhs", "rhs", "param", "args", "vector_selector", "vs"):
        for part in (
            found if isinstance(found := getattr(node, name, None), list) else [found] if found is not None else []
        ):
            yield from selectors(part)


def check(expression: str, metrics: dict[str, set[str]]) -> None:
    parsed = promql_parser.parse(re.sub(r"\$__rate_interval", "1m", expression).replace("$instance", ".*"))
    found = list(selectors(parsed))
    assert found, expression
    for selector in found:
        assert selector.name in metrics, (selector.name, expression)
        labels = {matcher.name for matcher in selector.matchers.matchers}
        assert labels <= metrics[selector.name] | {"job", "instance"}, (labels, expression)
    for group in re.findall(r"by \(([^)]*)\)", expression):
        known = set().union(*(metrics[selector.name] for selector in found)) | {"instance", "job"}
        assert {label.strip() for label in group.split(",")} <= known, expression


def test_alert_rules_are_of_metrics_that_there_are(metrics: dict[str, set[str]]) -> None:
    (rules,) = documents("prometheus/alerts.yaml")
    names = []
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
            check(rule["expr"], metrics)
            assert rule["labels"]["severity"] in ("page", "ticket") and rule["annotations"]["summary"].endswith(".")
            for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
                assert re.search(rf"by \([^)]*\b{label}\b", rule["expr"]) or label == "instance", rule["alert"]
            names.append(rule["alert"])
    assert len(names) == len(set(names)) >= 8


def test_the_dashboard_is_of_metrics_that_there_are(metrics: dict[str, set[str]]) -> None:
    board = json.loads((DEPLOY / "grafana" / "headwater.json").read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) >= 12
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)
    for panel in panels:
        for target in panel["targets"]:
            check(target["expr"].replace("$view", ".*"), metrics)
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            name, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
            assert label == "instance" or label in metrics[name]


def test_a_misspelt_metric_would_be_found(metrics: dict[str, set[str]]) -> None:
    for wrong in (
        'rate(headwater_http_request_total{status="5xx"}[5m])',
        'rate(headwater_http_requests_total{state="5xx"}[5m])',
        "sum by (views) (rate(headwater_feature_values_total[5m])) / 2",
    ):
        with pytest.raises(AssertionError):
            check(wrong, metrics)


def test_the_dockerfile_passes_its_linter_and_does_not_run_as_root() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["10001"] and any(line.startswith("HEALTHCHECK") for line in lines)
    command = json.loads(next(line for line in lines if line.startswith("CMD ")).removeprefix("CMD "))
    check_command(command)


def check_command(command: list[str]) -> None:
    """Check that every option of a command line is one of `headwater serve`'s."""
    assert command[:2] == ["headwater", "serve"]
    page = (DEPLOY.parent / "docs" / "cli.md").read_text()
    shown = page[page.index("headwater serve") :] + "--project"  # which every command takes
    for option in command[2:]:
        if option.startswith("--"):
            assert option in shown, option


def test_the_unit_is_well_formed() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(DEPLOY / "headwater.service")
    assert unit.sections() == ["Unit", "Service", "Install"]
    line = unit["Service"]["ExecStart"].split()
    check_command([Path(line[0]).name, *line[1:]])
    grace = load_settings(DEPLOY).server_grace.total_seconds()
    # the supervisor gives its workers some seconds more
    assert float(unit["Service"]["TimeoutStopSec"]) >= grace + 5
    assert unit["Service"]["User"] != "root" and unit["Service"]["KillMode"] == "mixed"


def test_the_manifests_fit_together() -> None:
    (deployment,) = documents("kubernetes/deployment.yaml")
    service, budget = documents("kubernetes/service.yaml")
    (scaler,) = documents("kubernetes/autoscaling.yaml")
    pod = deployment["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    assert budget["spec"]["selector"]["matchLabels"] == labels
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    (container,) = pod["spec"]["containers"]
    check_command(container["args"])
    port = next(port for port in container["ports"] if port["name"] == service["spec"]["ports"][0]["targetPort"])
    assert str(port["containerPort"]) == container["args"][container["args"].index("--port") + 1]
    assert {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness")} == {"/readyz"}
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    grace = load_settings(DEPLOY).server_grace.total_seconds()
    assert pod["spec"]["terminationGracePeriodSeconds"] >= grace + 5 + 5
    metric = scaler["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert FAMILIES[metric].kind == "gauge"
    for variable in container["env"]:
        assert variable["name"] in known_variables()


def known_variables() -> set[str]:
    text = (DEPLOY.parent / "docs" / "configuration.md").read_text()
    return set(re.findall(r"HEADWATER_[A-Z_]+", text))


def test_the_compose_file_names_what_there_is() -> None:
    (composed,) = documents("compose.yaml")
    services = composed["services"]
    server = services["server"]
    assert set(server["depends_on"]) <= set(services)
    assert (DEPLOY / server["build"]["context"] / server["build"]["dockerfile"]).resolve().is_file()
    for name, value in server["environment"].items():
        assert name in known_variables()
        assert any(f"@{service}" in value for service in services)
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])
    assert "noeviction" in services["redis"]["command"]
    volumes = {volume.partition(":")[0] for service in services.values() for volume in service.get("volumes", ())}
    assert volumes == set(composed["volumes"])


def test_the_scrape_is_of_the_route_that_there_is() -> None:
    (scrape,) = documents("prometheus/scrape.yaml")
    (job,) = scrape["scrape_configs"]
    assert job.get("metrics_path", "/metrics") == "/metrics"
    assert job["authorization"]["type"] == "Bearer"
