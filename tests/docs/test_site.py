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


def test_a_class_without_a_signature_is_found(scripts, tmp_path, monkeypatch):
    import site_check
    import site_pages

    paths = {
        "Entity": "headwater.definitions.entity.Entity",
        "Feature": "headwater.definitions.feature.Feature",
        "Client": "headwater.client.client.Client",
        # no calls make these
        "Status": "headwater.types.Status",
        "OnlineStore": "headwater.online.base.OnlineStore",
        "Int64": "headwater.types.Int64",
        "NotFound": "headwater.errors.NotFound",
        "freshness": "headwater.freshness",
    }
    monkeypatch.setattr(site_pages, "public_names", lambda: paths)
    headings = {name: f'<h2 id="{path}">{name}</h2>' for name, path in paths.items()}
    signature = '<div class="doc-signature highlight"><pre>(…)</pre></div>'
    page = headings["Feature"] + signature + headings["Entity"] + '<h3 id="x">x</h3>' + signature + headings["Client"]
    others = "".join(text for name, text in headings.items() if name not in ("Feature", "Entity", "Client"))
    (tmp_path / "page.html").write_text(page + others, encoding="utf-8")
    found = list(site_check.problems(tmp_path))
    assert [line.split()[0] for line in found] == ["Entity", "Client"] and "no signature" in found[0]
