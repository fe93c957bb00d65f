"""The documentation site: its API reference holds every public name; its check finds what another host would serve."""

import sys
from pathlib import Path

import pytest

import headwater as hw

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    yield
    for name in ("site_check", "site_pages"):
        sys.modules.pop(name, None)


def test_every_public_name_is_in_the_reference(scripts):
    import site_pages

    entries = {line.removeprefix("::: ") for page in site_pages.reference().values() for line in page.splitlines()}
    for name in hw.__all__:
        value = getattr(hw, name)
        in_errors = isinstance(value, type) and issubclass(value, hw.HeadwaterError)
        assert in_errors or any(entry.split(".")[-1] == name for entry in entries), name


def test_a_page_that_another_host_would_serve_a_part_of_is_found(scripts, tmp_path, monkeypatch):
    import site_check
    import site_pages

    monkeypatch.setattr(
        site_pages, "public_names", lambda: {"Entity": "headwater.Entity", "Feature": "headwater.Feature"}
    )
    (tmp_path / "page.html").write_text(
        '<link rel="canonical" href="https://a.example/"><link rel="stylesheet" href="//b.example/x.css">'
        '<script src="https://c.example/x.js"></script><script src="assets/x.js"></script><img src="x.png">'
        '<a href="https://d.example/">away</a><h2 id="headwater.Entity"></h2>',
        encoding="utf-8",
    )
    (tmp_path / "page.css").write_text("@font-face { src: url(https://e.example/f.woff2) }", encoding="utf-8")
    found = "\n".join(site_check.problems(tmp_path))
    assert [host for host in "abcde" if f"{host}.example" in found] == ["b", "c", "e"]
    assert "Feature has no entry" in found and "Entity has no entry" not in found
