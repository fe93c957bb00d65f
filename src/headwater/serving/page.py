"""`/docs`: the OpenAPI document as a page, made here: no script, nothing from elsewhere."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The page's Content-Security-Policy: its own style and nothing else."""


def page(document: Mapping[str, Any], address: str) -> str:
    """The page.

    Args:
        document: the OpenAPI document.
        address: the server's, for commands to paste.
    """
    routes = "".join(
        _route(path, method, route, document, address)
        for path, methods in document["paths"].items()
        for method, route in methods.items()
    )
    title = html.escape(f"{document['info']['title']} {document['info']['version']}")
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<meta name=viewport content='width=device-width'><style>{_style()}</style>"
        f"<h1>{title}</h1><p>Routes of this server; the same as <a href='/openapi.json'>OpenAPI</a>.</p>{routes}</html>"
    )


@cache
def _style() -> str:
    return (files("headwater.serving") / "page.css").read_text("utf-8")


def _route(path: str, method: str, route: Mapping[str, Any], document: Mapping[str, Any], address: str) -> str:
    head = (
        f"<h2><span class=method>{method.upper()}</span> <code>{html.escape(path)}</code></h2>"
        f"<p>{html.escape(route['summary'])}</p>"
    )
    content = route.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        named = [p for p in route["parameters"] if p["in"] != "header"]
        return head + _table([(p["name"], "", "in the path" if p["in"] == "path" else "query") for p in named])
    schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
    required = schema.get("required", ())
    rows = [
        (name, "required" if name in required else f"default {json.dumps(field.get('default'))}", field["description"])
        for name, field in schema["properties"].items()
    ]
    return head + _table(rows) + (_command(path, content["example"], address) if "example" in content else "")


def _table(rows: list[tuple[str, str, str]]) -> str:
    cells = "".join(
        f"<tr><td><code>{html.escape(name)}</code><td>{html.escape(how)}<td>{html.escape(what)}"
        for name, how, what in rows
    )
    return f"<table>{cells}</table>" if rows else ""


def _command(path: str, example: Any, address: str) -> str:
    body = json.dumps(example).replace("'", "'\\''")
    text = f"curl -s {address}{path} -H 'Content-Type: application/json' -d '{body}'"
    return f"<pre>{html.escape(text)}</pre>"
