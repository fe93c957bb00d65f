"""The paths and headers that a server and its clients share."""

from __future__ import annotations

READ, WRITE, DELETE = "/v1/features:read", "/v1/features:write", "/v1/features:delete"
STATUS = "/v1/status"
KINDS = {"views": "view", "features": "feature", "entities": "entity", "services": "service", "models": "model"}
"""What is registered: the last part of the path that lists it → one of it."""
SESSION = "headwater-session"
IDEMPOTENCY_KEY = "idempotency-key"


def listed(kind: str) -> str:
    """The path of all of one of `KINDS`; behind it and a slash, one's name."""
    return f"/v1/{kind}"
