"""The page about models: what it says of scikit-learn, LightGBM, polars and MLflow is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.doc_snippets import run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"


def test_the_page_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    namespace: dict[str, object] = {"__name__": "page"}
    shown = 0
    for snippet, printed in run(PAGE, namespace):
        if snippet.shown is not None:
            assert printed == snippet.shown, f"line {snippet.line} prints something else than the page shows"
            shown += 1
    assert shown == 7
    namespace["store"].close()  # type: ignore[attr-defined]
