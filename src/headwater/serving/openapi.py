"""The OpenAPI 3.1 document of a server: its routes, forms and answers, with examples of the project's own views."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

import headwater
from headwater.planning.catalog import ViewInfo
from headwater.planning.summaries import ViewSummary
from headwater.serving.bodies import DeleteBody, ReadBody, WriteBody
from headwater.serving.reads import INCLUDABLE
from headwater.types import ConsistencyLevel, DType, StalePolicy, WriteTarget
from headwater.wire import names
from headwater.wire.arrow_streams import CONTENT_TYPE

_EXAMPLES: dict[str, Any] = {
    "int32": 1,
    "int64": 1,
    "float32": 1.5,
    "float64": 1.5,
    "bool": True,
    "string": "a",
    "bytes": "AA==",
    "timestamp": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
}
_CHOICES: dict[str, dict[str, Any]] = {
    "consistency": {"enum": [None, *(level.value for level in ConsistencyLevel)]},
    "stale": {"enum": [policy.value for policy in StalePolicy]},
    "to": {"enum": [target.value for target in WriteTarget]},
    "errors": {"enum": ["raise", "report"]},
    "created": {"enum": ["arrival", "event"]},
    "include": {"items": {"enum": list(INCLUDABLE)}},
}
_DESCRIBED = {
    "entities": "columns of join keys (a single value is repeated), a list of objects, or for one join key its values",
    "features": "references such as 'weather:temp' or 'weather:*'; either these or a service",
    "service": "the name of a feature service, 'name' or 'name@version'",
    "model": "in place of a service the name of a logged model, 'name' or 'name@version': that model's service",
    "request": "values for on-demand features: field → one value for all entities, or a list with one for each",
    "consistency": "what the read may miss; null: eventual",
    "stale": "what happens to values older than their freshness SLA",
    "max_age": "a freshness SLA for this read alone, such as '5m'",
    "deadline_ms": "how long the online store may take; what it has not given by then is UNAVAILABLE",
    "refresh_budget_ms": "how long a refresh of stale values may take (stale: refresh); null: as configured",
    "full_names": "columns are named view__feature",
    "now": "read exactly as of this instant (RFC 3339); null: now",
    "include": "what comes beside the columns",
    "view": "a feature view",
    "rows": "rows with the source's own columns: a list of objects, or an object of columns",
    "to": "where rows are written",
    "durability": "how many replicas must have the rows before the answer",
    "errors": "raise: a bad row writes nothing; report: good rows are written",
    "created": "when rows without a created time count as known",
    "purge": "also erase the keys from history",
}
_VALUE = {"description": "by its dtype: see docs/http.md, 'Values as JSON'"}
_COLUMNS = {"type": "object", "additionalProperties": {"type": "array", "items": _VALUE}}
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457; the words are those of Python's error",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "urn:headwater:errors#, and the error's class"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "string"}},
        "request_id": {"type": "string"},
    },
}
_ANSWER = {
    "type": "object",
    "required": ["columns"],
    "properties": {
        "columns": _COLUMNS,
        "statuses": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
        "event_times": {"type": "object", "additionalProperties": {"type": "array"}},
        "freshness": {"type": "object", "additionalProperties": {"type": "array"}},
        "versions": {"type": "object", "additionalProperties": {"type": "string"}},
        "read_at": {"type": "object", "additionalProperties": {"type": "array"}},
        "created_times": {"type": "object", "additionalProperties": {"type": "array"}},
        "schema": {"type": "object", "description": "dtypes of keys and features, and the views that they are of"},
        "problems": {"type": "array", "items": {"type": "object"}},
    },
}
_STREAM = {
    "schema": {"type": "string", "contentMediaType": CONTENT_TYPE, "description": "see docs/http.md, 'Arrow'"},
}
_SESSION = {
    "name": "Headwater-Session",
    "in": "header",
    "schema": {"type": "string"},
    "description": "the token of the last answer; empty begins a session",
}
_IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "a text of the sender's, such as a UUID: the same request with it again is done once, for 24 hours",
}
_REQUEST_ID = {"name": "Headwater-Request-Id", "in": "header", "schema": {"type": "string", "maxLength": 128}}
_POSTED = (400, 401, 403, 404, 405, 408, 409, 413, 415, 421, 422, 429, 503, 507)
"""Statuses of problems that a request with a body may meet."""


def document(views: Iterable[ViewSummary], *, keys: bool) -> dict[str, Any]:
    """The document.

    Args:
        views: the live ones, for examples.
        keys: whether requests need an API key.
    """
    known = [view for view in views if isinstance(view, ViewInfo)]
    made: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "headwater", "version": headwater.__version__, "description": "Features over HTTP."},
        "paths": _paths(known),
        "components": {
            "schemas": {**_bodies(), "Problem": _PROBLEM, "Answer": _ANSWER, "Report": {"type": "object"}},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }
    if keys:
        made["security"] = [{"key": []}]
    return made


def _bodies() -> dict[str, Any]:
    """The forms of requests as they are checked, with what each field means."""
    _, schemas = msgspec.json.schema_components(
        (ReadBody, WriteBody, DeleteBody), ref_template="#/components/schemas/{name}"
    )
    for schema in schemas.values():
        schema.pop("description", None)
        for name, field in schema["properties"].items():
            field["description"] = _DESCRIBED[name]
            if name in _CHOICES:
                field.update(_CHOICES[name])
    return dict(schemas)


def _paths(views: list[ViewInfo]) -> dict[str, Any]:
    read, write, delete = _examples(views)
    paths: dict[str, Any] = {
        names.READ: _post("Read features", "ReadBody", "Answer", read),
        names.WRITE: _post("Write rows of a view", "WriteBody", "Report", write),
        names.DELETE: _post("Delete entities from a view", "DeleteBody", "Report", delete),
        names.STATUS: _get("How every version stands", "the status"),
        "/metrics": _metrics(),
        "/healthz": _get("Whether the process lives", "it does", security=[]),
        "/readyz": _get("Whether reads can be answered", "they can", security=[]),
        "/openapi.json": _get("This document", "the document"),
    }
    for kind, one in names.KINDS.items():
        which = "every version" if kind == "models" else "the live versions"
        paths[names.listed(kind)] = _get(f"List {kind}: {which}", f"the {kind}")
        shown = _get(f"Show a {one}", f"the {one}")
        shown["get"]["parameters"] += [
            {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
            {"name": "version", "in": "query", "schema": {"type": "string"}},
        ]
        paths[f"{names.listed(kind)}/{{name}}"] = shown
    return paths


def _examples(views: list[ViewInfo]) -> tuple[dict[str, Any] | None, ...]:
    """A read, a write and a delete of the project's own; None where it has no such view."""
    if not views:
        return None, None, None
    view = views[0]
    keys = {name: _example(dtype) for name, dtype in view.join_keys.items()}
    read = {"features": [f"{view.name}:*"], "entities": {name: [value] for name, value in keys.items()}}
    return read, _written(views), {"view": view.name, "entities": [keys]} if keys else None


def _written(views: list[ViewInfo]) -> dict[str, Any] | None:
    pushed = next((view for view in views if view.definition.source.kind == "push"), None)
    if pushed is None:
        return None
    definition = pushed.definition
    row = {definition.join_key_map.get(key, key): _example(dtype) for key, dtype in pushed.join_keys.items()}
    row |= {column: _example(dtype) for column, dtype in definition.source_columns.items()}
    if definition.source.event_time is not None:
        row[definition.source.event_time] = _EXAMPLES["timestamp"]
    return {"view": pushed.name, "rows": [row]}


def _example(dtype: DType) -> Any:
    if dtype.name == "embedding":
        return [0.5] * (dtype.dim or 0)
    return [] if dtype.name == "array" else _EXAMPLES[dtype.name]


def _post(summary: str, body: str, answer: str, example: Mapping[str, Any] | None) -> dict[str, Any]:
    parameters = [_REQUEST_ID, _SESSION]
    if answer == "Report":
        parameters.append(_IDEMPOTENCY)
    content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{body}"}}
    if example is not None:
        content["example"] = example
    return {
        "post": {
            "summary": summary,
            "parameters": parameters,
            "requestBody": {"required": True, "content": {"application/json": content, CONTENT_TYPE: _STREAM}},
            "responses": _responses({"$ref": f"#/components/schemas/{answer}"}, _POSTED, stream=answer == "Answer"),
        }
    }


def _get(summary: str, what: str, security: list[Any] | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {
        "summary": summary,
        "parameters": [_REQUEST_ID],
        "responses": _responses({"type": "object"}, (400, 401, 403, 404, 405, 421, 429, 503), what),
    }
    if security is not None:
        made["security"] = security
    return {"get": made}


def _metrics() -> dict[str, Any]:
    made = _get("What was asked and answered, and how the store stands", "metrics of all workers")
    text = {"schema": {"type": "string"}}
    made["get"]["responses"]["200"]["content"] = {
        "text/plain": text,
        "application/openmetrics-text": text,
    }
    return made


def _responses(
    schema: Mapping[str, Any], problems: Iterable[int], what: str = "the answer", stream: bool = False
) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    answer: dict[str, Any] = {"application/json": {"schema": schema}}
    if stream:
        answer[CONTENT_TYPE] = _STREAM
    return {
        "200": {"description": what, "content": answer},
        **{str(status): {"description": "a problem", "content": problem} for status in problems},
    }
