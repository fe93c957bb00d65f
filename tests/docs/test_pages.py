"""What the pages say is run: every Python snippet, and the output it shows."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from demo.data import prepare
from scripts.doc_snippets import run
from tests.servers.redis import RedisReplicas

ROOT = Path(__file__).resolve().parents[2]
SMALL_PAGES = [
    "definitions.md",
    "sql.md",
    "windows.md",
    "on-demand.md",
    "history.md",
    "beyond-one-machine.md",
    "training-sets.md",
    "serving.md",
    "freshness.md",
    "versions.md",
    "writing.md",
    "architecture.md",
    "advisor.md",
]


def check(page: Path) -> dict[str, object]:
    namespace: dict[str, object] = {"__name__": "page"}
    for snippet, printed in run(page, namespace):
        if snippet.shown is not None:
            assert printed == snippet.shown, f"{page.name}:{snippet.line} prints something else than the page shows"
    return namespace


@pytest.mark.parametrize("name", SMALL_PAGES)
def test_page_does_what_it_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check(ROOT / "docs" / name)


def test_consistency_does_what_it_says_on_a_primary_with_replicas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_replicas: RedisReplicas
) -> None:
    monkeypatch.setenv("HEADWATER_ONLINE_URL", redis_replicas.url)
    monkeypatch.chdir(tmp_path)
    store = check(ROOT / "docs" / "consistency.md")["store"]
    store.close()  # type: ignore[attr-defined]


def test_walk_on_real_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # tests run side by side: threads that wait for each other stand still
    dataset = prepare(ROOT / "demo" / "data")
    (tmp_path / "data").symlink_to(dataset.folder)
    monkeypatch.chdir(tmp_path)
    check(ROOT / "docs" / "walk.md")


def test_readme_s_first_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    now = datetime.now(UTC)
    hour = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    project = tmp_path / "path" / "to" / "project"
    (project / "data").mkdir(parents=True)
    rows = {"airport": ["JFK", "EWR"], "time_hour": hour, "observed_at": hour, "temp": [39.0, 41.0], "wind_speed": 9.0}
    pd.DataFrame(rows).to_parquet(project / "data" / "weather.parquet")
    spine = pd.DataFrame({"airport": ["EWR", "JFK", "JFK"], "timestamp": [now, hour - timedelta(hours=1), now]})
    namespace: dict[str, object] = {"__name__": "page", "spine": spine}
    for _ in run(ROOT / "README.md", namespace):
        pass
    train = namespace["train"]
    assert isinstance(train, pd.DataFrame)
    assert train["temp"].fillna(-1).tolist() == [41.0, -1, 39.0]
    store = namespace["store"]
    served = store.get_online_features(["weather:temp"], {"airport": ["JFK", "EWR"]}).to_dict()  # type: ignore[attr-defined]
    assert served == {"airport": ["JFK", "EWR"], "temp": [39.0, 41.0]}
    assert repr(served).replace("'", '"') in (ROOT / "README.md").read_text()
    store.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links {target}"


def test_architecture_names_files_that_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    for name in re.findall(r"`([a-z_/]+(?:\.py|/))`", page):
        base = ROOT if name.startswith("tests/") else ROOT / "src" / "headwater"
        assert (base / name).exists(), f"architecture.md names {name}"
