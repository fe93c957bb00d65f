"""The page about HTTP: its curl commands are run against a server of the project that it names."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import headwater as hw
from headwater.cli import main
from tests.servers.headwater_server import HeadwaterServer

PAGE = Path(__file__).resolve().parents[2] / "docs" / "http.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    text = PAGE.read_text()
    assert main(["init", str(tmp_path)]) == 0
    blocks = BLOCK.findall(text)
    (added,) = [code for kind, code in blocks if kind == "python"]
    features = tmp_path / "features.py"
    features.write_text(features.read_text() + "\n" + added)
    with hw.FeatureStore(tmp_path) as store:
        store.apply()
        store.materialize()
    shown = 0
    with HeadwaterServer(tmp_path) as server:
        printed: list[str] = []
        for kind, code in blocks:
            if kind == "bash" and "curl" in code:
                local = code.replace(":8080", f":{server.port}")
                done = subprocess.run(["bash", "-ec", local], capture_output=True, text=True, timeout=60, check=True)
                printed = [done.stdout]
            elif kind == "json":
                last = json.loads(printed[0][printed[0].rindex('{"columns"' if '"columns"' in code else '{"type"') :])
                last.pop("request_id", None)
                assert last == json.loads(code), printed
                shown += 1
    assert shown >= 4


def test_keys_are_made_listed_and_revoked_as_the_page_says(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path)]) == 0
    (block,) = [code for kind, code in BLOCK.findall(PAGE.read_text()) if "keys create" in code]
    for line in block.strip().splitlines():
        command = line.replace("'", "").split()[1:]
        assert main([*command, "--project", str(tmp_path)]) == 0, line
    with hw.FeatureStore(tmp_path) as store:
        states = {key.name: key.revoked_at is None for key in store.registry.api_keys.all()}
    assert states == {"web": False, "ingest": True}
