"""The page about clients: its Python and curl blocks are run against a server of the project that it names."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import headwater as hw
from headwater.cli import main
from scripts.doc_snippets import run
from tests.docs.test_http_page import BLOCK, PAGE
from tests.servers.headwater_server import HeadwaterServer

CLIENTS = PAGE.with_name("clients.md")


def test_the_page_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    project = tmp_path / "project"
    assert main(["init", str(project)]) == 0
    (added,) = [code for kind, code in BLOCK.findall(PAGE.read_text()) if kind == "python"]
    features = project / "features.py"
    features.write_text(features.read_text() + "\n" + added)
    with hw.FeatureStore(project) as store:
        store.apply()
        store.materialize()
    with HeadwaterServer(project) as server:
        # a busy host may take longer than a second
        text = CLIENTS.read_text().replace(":8080", f":{server.port}")
        page = tmp_path / "clients.md"
        page.write_text(text.replace(f':{server.port}")', f':{server.port}", timeout="30s")'))
        shown = 0
        for snippet, printed in run(page, {"__name__": "page"}):
            if snippet.shown is not None:
                assert printed == snippet.shown, f"line {snippet.line}"
                shown += 1
        assert shown == 4
        printed = ""
        for kind, code in BLOCK.findall(text):
            if kind == "bash" and "curl" in code:
                done = subprocess.run(["bash", "-ec", code], capture_output=True, text=True, timeout=60, check=True)
                printed = done.stdout
            elif kind == "json":
                assert json.loads(printed) == json.loads(code)
                shown += 1
        assert shown == 6
