"""What errors say of calls in Python, in words for HTTP, and again for clients in Python."""

from __future__ import annotations

from headwater.planning.resolved import FULL_NAMES
from headwater.planning.value_checks import PARSE_TIMES

_WORDS = (
    (
        "pass session=store.session()",
        "send the header Headwater-Session (empty to begin a session)",
        "pass session=client.session()",
    ),
    (
        "the error's .session",
        "the session token of this answer (header Headwater-Session)",
        "the error's .session",
    ),
    (
        PARSE_TIMES,
        "it is text: write it as RFC 3339 has it (2026-11-28T10:00:00Z), in Arrow as a timestamp",
        PARSE_TIMES,
    ),
    (
        f"{FULL_NAMES} or rename() one of them",
        'set "full_names": true, or request one of them',
        "pass full_names=True, or request one of them",
    ),
    (
        f"{FULL_NAMES} or rename() the feature",
        'set "full_names": true',
        "pass full_names=True",
    ),
    ("remove one, or rename() it", "remove one", "remove one"),
    ("; omit request=", '; omit "request"', "; omit request="),
)
"""Of a store's errors, of a server's, and of a client's."""


def over_http(text: str) -> str:
    """A store's words in an answer over HTTP."""
    for store, server, _ in _WORDS:
        text = text.replace(store, server)
    return text


def for_client(text: str) -> str:
    """A server's words for who uses a client in Python."""
    for _, server, client in _WORDS:
        text = text.replace(server, client)
    return text
