"""Sessions on their way: a session's token in each request, and what the answer's token adds to it."""

from __future__ import annotations

from headwater.client.calls import Call, Reply
from headwater.errors import ConsistencyLost, UsageError
from headwater.online.session import MOST_CHARACTERS, Session, too_long
from headwater.wire.names import SESSION


def session_headers(session: Session | None) -> dict[str, str]:
    """The header that brings a session; an empty one where it has seen nothing yet.

    Raises:
        UsageError: it is not a session.
        ConsistencyLost: it has more tokens than a request can bring; has a fresh session.
    """
    if session is None:
        return {}
    if not isinstance(session, Session):
        raise UsageError(f"session={session!r}: pass client.session(), or hw.Session.from_token(token)")
    token = session.token if session.store else ""
    if len(token) > MOST_CHARACTERS:
        raise ConsistencyLost(too_long(len(token)), Session())
    return {SESSION: token}


def advance(session: Session | None, call: Call, reply: Reply) -> None:
    """Take note of what an answer to a request says the session has seen."""
    token = reply.headers.get(SESSION)
    if session is not None and token:
        session.answered(call.headers[SESSION], token)
